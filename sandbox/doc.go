// Package sandbox holds the other parties of a payment: networks that behave like real ones, faults included.
//
// The wallet network plays alipay, wechat, unionpay, humm, zippay, afterpay, latitudepay, genoapay, payme, fps and octopus, and stands in
// for card tokens (financialcard). It is a separate party: it keeps its own books, is reached only over its wire, and knows nothing of the
// program that it tests, so that it can bear witness whether money moved once, twice or not at all. The wire is described in
// docs/wallet-network.md, the triggers in docs/sandbox.md.
//
// The card host plays the host of an acquirer and the issuers behind it: it speaks ISO 8583 over TCP (docs/card-host.md), checks PINs,
// cryptograms, security codes and limits, and keeps the balances of a deck of cards. Its ISO 8583, PIN and EMV code is written apart from
// the platform's, so that one mistake cannot agree with itself.
//
// The books of each are a journal of JSON lines, one for every change of state, written before the answer leaves. They outlive kill -9. They
// are not synced to the disk, so they do not outlive a loss of power; and they are never compacted: delete the file to forget.
package sandbox
