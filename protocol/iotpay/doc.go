// Package iotpay speaks the order interface of IOT Pay (Canada): a till posts a signed form, and for the channel CC_PAX the server drives the
// card terminal and answers the till synchronously; wallets, by the merchant's scan or the customer's, go to the core directly.
//
// Two documents are cited: "seed" is POS Semi-Integration as its owner publishes it; the project's own reference holds the same facts and,
// each with its source, what could be found beyond them. A bare § is a section of the reference. Where the two disagree the seed wins.
//
// # Actors
//
// The caller is a till. It signs with its merchant's key and names its login (jobNo) and device, which together say which terminal is its
// own; Accounts knows all that. The terminal is reached through Terminals, whose other side makes the attempt when a card is read. The Client
// is a till's side of it.
//
// # Outcomes
//
// Both codes SUCCESS, and a status of 2 or 3: paid (seed). A decline is SUCCESS with status 9, its words in extra.receiptDisp. FAIL on both
// levels says that nothing was asked of the bank, or that nothing is known (0010, 0110, 0111: query). create_order with CC_PAX is held until the
// end is known; held too long it is 504 without a body, never a failure. No failure is told while an undoing is still owed: that is status 1.
//
// # What is kept of a card
//
// The core keeps what it keeps of every card: the sealed number and its masked form. Beside the payment, as an answer of its own key (scope
// iotpay-receipt), stands the terminal's Report in JSON: brand, AID, label, TVR, TSI, CVM, entry mode, the terminal's numbers and clock, which the
// receipt needs however late it is printed, by any process. Cryptogram and expiry are not in it: they stay in memory, for five minutes, since a
// till that was cut off learns its receipt by query_order. After that, and after a restart, emvTC is empty and expireDate blank.
//
// # Divergences and free choices
//
//   - §1.1 The channels that a point of sale needs are offered. Those of browsers and apps (§3.4, payForSubmit) are refused with 0014, as any
//     channel that is not known.
//   - §2.4 Failures are signed when the merchant is known, also when the request's signature did not fit.
//   - §3.0 A repeated parameter, or params twice, is refused: two readers could disagree about which one counts. So is U+0000, which cannot be
//     stored, and JSON text within JSON text, which nobody sends. Number, length and nesting of parameters are bounded, far above the documented limits.
//   - §3.0 A path that is not known is HTTP 404.
//   - §3.1 Fields that public clients leave out (jobNo, body, extra, codeType, loginName, and clientIp of refunds) are required only of a Strict server.
//   - §3.1 A tip is on top of the amount; trxAmount is the sum. What can be refunded is the sum too: a customer gets a tip back.
//   - §3.1 refundable of an unpaid order is its amount, as in the seed's failed sample; of a paid one what the core would still give back.
//   - §3.2 A wallet's decline has its words in errCodeDes, since extra is the request's.
//   - §3.3 A QR order without a code to show is FAIL: 0110 when the wallet has not answered, 0111 when it refused.
//   - §3.7 A refund that was declined is FAIL 0111, though it stands and can be queried: a public client takes either SUCCESS for good. loginName may
//     be missing; the login needs no terminal. Cards are refunded without the card, by the core; a full refund is not turned into a void.
//   - §3.9 close_order is offered. It also takes the order back from a terminal that still asks for a card. While the undoing of an attempt is
//     owed its answer says status 1.
//   - §4.2 A QR order that waits for its customer is 0, one whose customer types a password 1.
//   - §4.3 receiptDisp of a decline has the host's own code where it told one. An order closed by the till says "Transaction Cancelled 266" with
//     status 4, as one cancelled at the terminal says with 9. retDetail of status 4 tells people why: absent and busy terminals share a receiptDisp.
//   - §4.3 A card order that its host has approved stays 1 until its terminal is done, ten seconds at most: the chip may still refuse, and till
//     then the receipt is not complete. The till would print it at the first 2 that it sees (seed).
//   - §6 An order number is used once, whatever came of it: create_order never answers with an order that was there before. A wrong PIN ends the
//     order too; the till begins another.
//   - §6 An unpaid card order lives for seventeen eighteenths of the time for which its call is held, so that its end is still answered.
//   - §7 notifyUrl http://localhost means none on every channel. A notice is stored unsigned, and signed when it is sent: keys change.
//   - §9.1 termNum are the last five digits of our terminal's ID, bankTermNum the terminal's number at the host. termInvoiceNum, seqNum and batchNum
//     are the terminal's where it told them, else the payment's ID, the retrieval reference number, and month and day of the business day.
//     timeStamp is when the host answered, by our clock.
//   - §8 Triggers live in the sandbox's networks only.
//   - In the client, an answer whose signature does not fit is no answer, unless Unverified is set (§2.5: how the real service signs is not
//     known); a failure without a signature is believed. An order that is still unknown after a minute of queries never arrived.
package iotpay
