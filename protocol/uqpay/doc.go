// Package uqpay speaks the card-present (POS) part of UQPAY's Global Acquiring API, version V1.6.0: HTTPS and JSON under a short-lived
// access token, terminals that are registered once, PIN keys that a terminal fetches under an AES key of its own, payment intents with
// their attempts, refunds, lists, and signed webhooks.
//
// Two documents are cited: "UQPAY seed" is the guide as its owner publishes it; "UQPAY reference" is the project's own reference, which
// holds the same facts and, each with its source, what could be found beyond them. A bare § is a section of the reference. Where the two
// disagree the seed wins.
//
// # Actors
//
// The caller is a terminal or a merchant's back end. It knows a client id and an API key, and buys tokens with them (§2.1). With
// x-on-behalf-of it acts for a sub-account (§2.2). The card's number, its tracks, chip data and PIN block pass through to the core and are
// neither kept nor shown; what an answer shows of a card comes from payment.CardFacts.
//
// # Outcomes
//
// A decline is a result: HTTP 200, the attempt FAILED, and the intent open for another attempt (§3.3). What is not known is PENDING; it is
// to be retrieved, never paid again. The Client reports ErrOutcomeUnknown when it must stop without an answer, and its Stored request, sent
// again, never pays twice: it repeats the idempotency key and the STAN (§6).
//
// # Credentials
//
// A credential's secret is the client id, which is a name and no secret; the keyed hashes of its API keys are in its profile (Enrol makes
// both), several at once while keys are rotated. So a wrong client id (400) and a wrong key (401) can be told apart (§2.1), and a token needs
// nothing but the client id in it. A credential of AccountProtocol under the sub-account's merchant, with AccountSecret as its secret, lets
// a client act for it; to end that, disable the credential.
//
// # Divergences and free choices
//
//   - §2.1 A token whose client was given a newer one is answered "token has expired", as one past its time: that text makes the clients
//     that share it mint another. A token's id is stored, so the rule survives restarts and holds on all servers; another server
//     may honour the old token for two seconds more.
//   - §2.1 Tokens are HS256 under a key that the vault derives; no server has it in its configuration.
//   - §2.2 Requests that fail authentication count against their address, others against their client. A window is a minute of the clock,
//     counted by each server process.
//   - §2.4 A terminal none of whose PIN keys is alive is refused with pinkey_retrieve_failed before anything is stored or sent. The
//     reference words an unknown key as a decline; but that this terminal has no key is known here, and sent to the host the block would
//     count as a wrong PIN of the cardholder's. With a living key, a block that decrypts to no PIN goes to the host as one that cannot
//     match, and is the decline of §3.3.
//   - §3 A name of a member is compared to the letter, a repeated name is refused, and depth, length, number of values, digits and exponents
//     are bounded. A null is an absent member. A body that is too long is invalid_parameter, since the table of §5 knows no 413.
//   - §3.3 A missing field is missing_parameter; one of the wrong type, or too long, is invalid_parameter and names it, except description
//     (§3.3). Empty text counts as missing where the field is required.
//   - §3.3 Amounts are plain decimals: no sign, no exponent. Zeros beyond the currency's decimals are accepted, other digits there are not.
//   - §3.3 encrypted_pin counts when the verification method is online_pin or absent. It must be 16 hexadecimal digits in any case.
//   - §3.3 Tracks and emv_tags must be readable; a track's number, and its expiry where it has one, must be the card's. A card is expired
//     when its month has passed at +08:00.
//   - §3.3 auto_capture false may come with a create and with a confirm, and holds for that attempt.
//   - §3.3 payment_orders, customer, browser_info and ip_address are checked for their type and not kept.
//   - §3.3 STANs are unique per terminal and day at +08:00, over create and confirm.
//   - §3.3 rrn is shown for declined attempts too: it is what the host's books know them by.
//   - §3.9 A cancel of a cancelled intent answers with the intent. A same-day void needs its setting, nothing refunded, and the same day
//     before 23:00 at +08:00. Cancels are answered at once, so acquiring.cancel.failed is never sent.
//   - §3.12 A refund is answered with what became of it when the host is quick, else as PROCESSING. Amounts that the core gives back by
//     itself are no refunds of the caller's and are in no list.
//   - §3.14 Refunds of the last month are listed when no start_time is given and no intent or order either.
//   - §4.2 SETTLED and SUCCEEDED of an attempt are never reached: paying merchants out is not the POS API's.
//   - §6 The answer to a request that has no outcome yet is not kept: a replay waits, and tells what has become of it.
//   - §7 A webhook is of one account; a sub-account's events go to webhooks of its own merchant. event_id is made from the event and its
//     source, so that every delivery of one event carries the same.
//   - §8 The simulator's triggers are the sandbox's.
package uqpay
