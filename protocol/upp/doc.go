// Package upp speaks the interface of Quest's Universal Payment Platform (UPP), in store and for websites: REST and JSON under a bearer
// token, one transaction object for purchases and refunds over many wallets, a long poll for what is not decided at once, and a cancel.
//
// Two documents are cited: "UPP seed" is the interface as its owner publishes it; "UPP reference" is the project's own
// reference, which holds the same facts and, each with its source, what could be found beyond them. A bare § is a section
// of the reference. Where the two disagree the seed wins.
//
// # Actors
//
// The caller is a merchant's back end that acts for its tills and holds the token; the token alone says which merchant and
// terminal it is (§2). UPP answers, and stands before the wallet providers. Nothing is ever called back: the caller polls (§1).
//
// # Outcomes
//
// A transaction's result is one tri-state member, approved: true, false, or absent, which is pending (UPP seed). Goods may leave
// the shop only on Transaction.Paid, approved and not cancelled (§4). Silence is never an answer: the Client sends the same bytes
// again, since a transaction reference never makes a second transaction (§6.1), and reports ErrOutcomeUnknown when it must stop
// without having learned what happened.
//
// # Divergences and free choices
//
//   - §2 A token that belongs to no terminal is refused with 403: nothing else says which terminal asks and whose business day counts.
//     Addresses are those of the connection; headers that a proxy adds are not believed.
//   - §3.0 The reader of requests is stricter than JSON asks: a name is compared to the letter, a repeated name is refused (two
//     readers could disagree about which one counts), half of a surrogate pair and U+0000 are refused (the first cannot be
//     echoed, the second cannot be stored), and depth, length, number of values, digits and exponents are bounded.
//   - §3.0 A null is an absent member: a fault where it is required, nothing where it is optional. An empty text of billing,
//     shipping and shopper has no value and is not echoed.
//   - §3.1 A customer-presented purchase never carries discount, whatever its state; all other transactions carry 0. The seed
//     shows this for approved ones, and one rule for all states keeps the answers of one transaction alike.
//   - §3.1 Numbers of items are echoed with the digits they came with; all other sums are written in their shortest form.
//   - §3.1 modified of an approved purchase is when it was approved: a refund does not change the purchase (§3.4).
//   - §3.2 The token of the customer is echoed as trimmed. A token of blanks only is no token.
//   - §3.2 A negative amount is accepted on items of type discount and credit, and refused on others. The sum of the items is not
//     compared with the amount: split tenders are legal.
//   - §3.3 returnUrl, webWidget, billing, shipping and shopper mean something on website purchases only; on others they are unknown
//     fields, as are the fields of a purchase on a refund and the other way round. A provider may be missing only beside webWidget.
//   - §3.3 The inner shape of webWidget is ours: {"provider":"zippay"}, as our script makes it; other members do not count. The provider it
//     names is the transaction's in every answer and on refunds, though the request named none. Beside a provider it must name the same.
//   - §3.3 On a website financialcard needs a token, and is charged by it at once; a token beside any other provider means nothing. No
//     customerToken of a website purchase is ever stored or echoed, since it is a card's.
//   - §3.3 sendCustomerToUrl is there while the purchase is pending: once it is decided nobody needs to be sent anywhere.
//   - §3.5 to §3.7 A path whose reference no create could have used, because it is too long or not UTF-8, is a 404 at once; a cancel of it
//     keeps nothing closed.
//   - §3.6 A poll that comes when the server is already stopping is answered 202 at once too.
//   - §3.8 startWebWidget lists the wallets that §3.9 places on websites, are enabled for the merchant and pay in the currency; a
//     purchase takes every enabled provider. Its token tells one start from another and authorises nothing, so neither it nor expires is
//     checked later. The scripts are served at the root of the mount only, not below /api, to everybody and without a token.
//   - §3.8 A complete that finds the server stopping is answered 202 at once.
//   - §5 The first fault in the documented order of the fields is the one that is reported, with the path of its field. A sum that
//     is no JSON number at all ("1.00") is invalidRequest; one that is no payable sum is invalidAmount.
//   - §6.1 The canonical form of a request leaves out billing, shipping, shopper and clientIpAddress, as the section lists.
//   - §6.1 What is stored for later echoes never holds card tokens or webWidget, so a conflict in one of these is worded "different
//     content" without naming the field.
//   - §6.3 In the client, HTTP 408 and 425 are repeated as 429 is, redirects are never followed (a POST would become a GET), a
//     2xx that does not hold the transaction asked for is no answer, and only a 404 with a JSON body says that a transaction does not
//     exist: a page in HTML comes from something in front of UPP. A Retry-After of at most a minute lengthens the pause.
//   - §6.3 A resend that is refused while another request holds the reference ends with the refusal: the transaction found is compared
//     with the bytes sent before it is taken for their result.
//   - §6.3 A poll that returns at once and undecided is followed by a pause of 250 ms, so that a server which is shutting down
//     is not spun on; pauses after errors grow to 10 s.
//
// # Acceptance cases
//
// The tests of the server go by the case numbers of §9. Not among them:
//
//   - W10, which needs Quest's demo: its four steps (§12.1) are gone through by a shop of our own in the tests of the program, once by
//     its forms and once with a browser that runs the two scripts.
//   - §9.9: what the cashier sees is the till's, not the server's.
//   - A request that net/http itself refuses, such as a path with a broken percent escape or a header that is too long, is answered by
//     net/http and not in JSON.
package upp
