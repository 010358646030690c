// Package card is the vocabulary of payment cards: account numbers, expiry dates, tracks, PINs and PIN blocks.
//
// Values that must not leak are types that hide their content. They keep it in a closure, which no printer can look into, and say
// nothing, or the mask, under every verb of fmt, in JSON and in logs. Content leaves only through Reveal. They hold a func, so they
// cannot be compared with == by mistake; use Equal.
package card
