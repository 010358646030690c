// Package cardhost is the link to a card host over ISO 8583:1987, as docs/card-host.md has it. References like "page, Keys and MAC" are to
// that page.
//
// Four words: a frame is two bytes of length and a message; the codec (spec.go, message.go) turns messages into bytes and back; a line
// (line.go) is one connection with its keys, and pairs answers with requests (mux.go); the Link keeps several lines signed on and is the
// payment.Acquirer. It decides nothing about money: what an answer means is in one table (outcome.go).
//
// The codec is a table and some fifty lines of our own because github.com/moov-io/iso8583 takes 55 µs and 250 allocations for one sale and
// its answer, which is more than all else that a sale costs here. The tests hold the two against each other.
package cardhost
