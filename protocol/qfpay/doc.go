// Package qfpay speaks QFPay's ECR protocol, in which the payment terminal is a server to the cash register beside it: a sale, a refund, an
// inquiry, a cancel and two prints, over HTTP, TCP or a serial line, encrypted under a POS-KEY that both know.
//
// Two documents are cited: "QFPay seed" is the interface as its owner publishes it; a bare § is a section of "QFPay reference", the
// project's own, which holds the same facts and, each with its source, what could be found beyond them. Where the two disagree the seed
// wins, unless clients that are in use need both.
//
// # Actors
//
// The cash register asks and waits. The terminal, which is this Server and the Desk behind it, answers when the customer is done. Client is the
// cash register: of our own terminal, or of one of QFPay's.
//
// # How a device implements Desk and Keys
//
// A device is a terminal program. It gives one Desk and one Keys to one Server, and the Server to an HTTPLink, a TCPLink and a SerialLink, each of which
// it runs until it stops; then it calls Server.Wait. Beyond the methods' own comments:
//
//   - Sale. Take the terminal for yourself or fail with ErrBusy: orders of other protocols come to the same terminal. Remember
//     SaleRequest.Order before anything else, so that Cancel finds it. Then show the amount, and read the card or code within Timeout; when nobody came, return a
//     Trade that is declined for payment.ReasonExpired, or for payment.ReasonCustomerCancelled when the customer pressed the key. Card data goes from the
//     reader to the engine, and never into a Trade: what comes back is masked.
//   - Key. OutTradeNo, in Scope, is the payment's key with payment.SaleCommand.ReusableKey, so that a number is free again after a failure (design
//     4.1); without one the device makes a key of its own. Lifetime is Timeout.
//   - Outcome. Answer from what the engine said: approved, declined with its reason, waiting, or unknown. When the link to the engine breaks after
//     the order has left, it is payment.OutcomeUnknown until the engine has been asked; never an error, which would say that nothing moved. An unknown
//     sale is answered 6002 with the inner code 1145, and found by inquiry (design 5).
//   - Cancel. Before the card or code is on its way to the acquirer, end it: Sale returns declined for payment.ReasonCancelled. Afterwards return
//     ErrTooLate. While a code of ours is shown, cancel the payment at the engine as well, which takes back what may still be paid.
//   - Refund. Original is looked up as the payment's number, then as its OutTradeNo. The zero Amount is all that is left. The key is made of the
//     original and the amount, so that an equal refund that is still unresolved is payment.ErrKeyBusy; a settled one must free it. The engine's policy
//     refuses a part on the day of the payment by card, which is ErrSameDayPartial here, so that it is told as 1124; Channel.Refundable tells what is ErrNotRefundable.
//   - Inquiry. Trade.Refunded counts what is approved only: a register that lost the answer to a refund compares it with what it was before (§7).
//   - Summary.Lines and PrintReceipt's Trade are what a printer needs of this protocol; a receipt has more, which the device asks of the engine.
//   - Keys. Return the set of the last refresh. After a change of the POS-KEY return both, the new one first, until the refresh is confirmed.
//
// # Outcomes
//
// Response.Code tells how the request ended, the inner code in data how the transaction did. 6000 on a sale is money; 6001 is none, and so is 6002
// unless its inner code is one of Inner.Pending: then nobody knows yet, and an inquiry will. The Client follows this rule: it inquires after
// silence, never sends a sale or refund again that may have left, and reports ErrOutcomeUnknown when it must stop without having learned what happened.
//
// # Security
//
// The cipher has a fixed IV and the digest is MD5 over a text and the key: they keep out who does not know the POS-KEY, and hide little from who listens. There is
// no nonce: a captured request can be sent again, which out_trade_no, the customer's card and the refundable rest hold in check. Use HTTPS where a
// register can. An encrypted request in which anything is wrong (key, Base64, padding, text, digest) is answered 5001 and nothing else, not before
// a pause that hides how far it got. Card numbers pass masked or not at all.
//
// # Divergences and free choices
//
//   - QFPay seed, 9, §2.6: answers are encrypted when requests are, but for the one form of request whose known sender (Odoo, with quoted Base64) reads
//     plain answers only. KeySet.Reply makes that strict.
//   - §2.6 Encryption is on by default (QFPay seed, 1), and plain requests are then refused with 4003; the reference's default is auto.
//   - §2.4 A digest that does not match is always refused: 4003 in a plain request, 5001 in an encrypted one. The policies warn and off do not exist.
//   - §2.3 A content in which a text could pass for the next field of the canonical form is refused, as is a name that comes twice.
//   - §2.1 Every key mode is tried for each request; nothing is remembered of a client. GeneratePOSKey makes 16 characters.
//   - §3.1 An over-long body is 4006; status 404 is for unknown paths only.
//   - §3.2 A register on TCP whose text does not decrypt hears so 50 ms after a line's end or Base64 padding, else after 5 s. What follows
//     such a message on the connection is not read. No settings: terminators are mirrored and connections stay open.
//   - §3.3 The result of a serial request is a frame of type 20 after an empty one of the same number. The Client understands the other two ways as well; the
//     Server has no setting for them. A repeat is the same number with the same content, while it runs and for 5 s after its result.
//   - §3.3 In frames a wrong digest is error 32 in plain requests only, and 33 in encrypted ones; a missing func_type is acknowledged and answered 4006.
//   - §4.0 Amounts in answers are cents as text, except in inquiries (§4.5). amt is dollars; cents, as before 2024, are not understood.
//   - §4.1 scan_type is ignored for cards, as the seed's own sample needs. Octopus by a code of ours has the cloud's PayType 803701. There is no tip.
//   - §4.2 The hours in which QFPay's cloud refuses refunds (1265) are its own, not ours; payment.ErrWindow is told so.
//   - §4.4 The summary is of the business day by Hong Kong's time.
//   - §4.6 A cancel that meets the end of its sale is 6000 only if nothing was or may be paid.
//   - §5, §7 A sale whose number is already paid is refused with the inner code 2011. The settings replay and allow do not exist: design 4.1 decides.
//   - §5 An inquiry about the number of a running sale is answered as waiting (1143) though the engine has not heard of it yet.
//   - §6.1 resperr names the inner code in brackets behind its text, for people who see nothing else.
//   - §7 "Order not found" ends the Client's inquiries only when the customer's time is over: a terminal waits for cards of which nobody else knows.
//   - §8, §10 The portal and QFPay's cloud are not in this package.
package qfpay
