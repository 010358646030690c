// Package upay speaks the Upay Web API of WoSai (Shouqianba): tills that scan a customer's code or show a QR code, over HTTPS and JSON, each
// request signed with a key that the till changes daily; refunds in parts, a revoke on the same day, a query, and callbacks.
//
// Two documents are cited: "the seed" is the interface as its owner publishes it; a bare § is a section of the project's own reference, which
// holds the same facts and, each with its source, what could be found beyond them. Where the two disagree the seed wins.
//
// # Actors
//
// A vendor's software activates a terminal with a code of the merchant's, once (§3.1). The terminal then holds terminal_sn and terminal_key,
// which sign everything it asks for, and checks in for a new key when it likes; the current and the last key are valid (§2.5). Upay answers,
// and stands before the wallets. An order may be called back to a notify_url; the till still asks, since a callback is never a promise (§7).
//
// # Outcomes
//
// What an order is, order_status tells (§4.3); a till may part with goods on PAID alone. A payment whose outcome is not known is told as
// PAY_IN_PROGRESS and CREATED while the customer may still pay, so that tills ask again, and as PAY_ERROR when its time is over and the
// provider is silent. The Client's TakePayment, Settle, Follow and TakeRefund go on until they know, and fail with ErrUncertain when they must
// stop before.
//
// # Divergences and free choices
//
//   - §1.2 The server mints what it hands out: sn is 78 and 14 digits, terminal_sn and terminal_key are the registry's.
//   - §2.2 The terminal is looked up before the body is read, so that strangers cannot fill the memory. A wrong signature is checked a second
//     time against keys that are freshly read, since another process may have changed them.
//   - §2.3 Of a number where a string is documented, the whole value counts: 1250, 1250.0 and 125e1 are "1250". A repeated member, text
//     that is not UTF-8, half of a surrogate pair and U+0000 are refused; depth, length and the number of values are bounded.
//   - §2.5 The life of a key is counted from its issue. What is signed with the last key works in a check-in too while that key lives.
//   - §3.1 device_once can be a default of the installation only: before an activation nobody knows whose terminal it will be.
//   - §3.4 A pay is held for 35 s or until the order is decided, also while the customer types a password.
//   - §3.4 What is refused before there is an order (a code that no table knows, a payway that nobody plays here) is FAIL with data null, and
//     leaves client_sn free. It is the real service's advice, and no rule of the server's, that a number is not used again after that.
//   - §3.5 Sub-payways 3 to 6 send the customer's browser to the wallet's page: wap_pay_request is {"pay_url": …}, since the wallet network has
//     no parameters of a JS API. payer_uid is wanted as documented, and means nothing to the network.
//   - §3.5.2 The picture's address holds a MAC, so that it draws what this server has handed out only.
//   - §3.6, §3.7 The provider's number is not taken in place of sn: the core has no index of it.
//   - §3.6 A refund that the provider refused is no transaction of the order's: a query tells the one before it, and order_status as though it
//     had not been. Asked for by its refund_request_no it is told. An unknown refund_request_no is FAIL with TRADE_NOT_EXIST.
//   - §3.7 The number of a refund that was refused stays its own; another try needs another number.
//   - §3.7 A refund keeps the fee (the seed says that only a revoke returns it).
//   - §3.8 An order that was never paid and is cancelled has the status FAIL_CANCELED, so that nobody who reads status alone takes it for
//     paid; one that was paid and is revoked has SUCCESS, as documented. A cancel whose undoing is not acknowledged yet is
//     CANCEL_ABORT_IN_PROGRESS, and one that got no answer CANCEL_ABORT_ERROR: the undoing is owed in any case, and a repeat tells how far it is.
//   - §3.8 A pay that a cancel has overtaken is PAY_FAIL with order_status CANCELED.
//   - §3.9 Without payway, and in a browser that is no wallet's, the gateway takes WeChat, as formerly. The same address again leads to the
//     same order, since browsers load pages again; another address with its client_sn is refused.
//   - §7.1 Which events are called back is decided when the order is made.
//
// # What clients should know
//
// A key that is 48 hours old signs nothing but a check-in. The real service seems not to hold this (§0.1), so a merchant whose tills never
// check in needs the setting terminal_key_ttl "0s".
package upay
