// Package notify sends the notices that callers are owed: signed callbacks and webhooks.
//
// A notice is a row, stored in the commit that it tells of. A Sender takes what is due, host by host, claims it by compare-and-set, sends it
// and settles it: it was accepted, it comes due again after the protocol's pause, or it is given up after the last try and kept for people.
// What a dead process had in hand comes due again by itself. So receivers are told at least once, and perhaps not in order.
//
// Addresses come from merchants and from requests, so they are not trusted (Targets): they are checked when they are registered, again when
// they are sent to, and the address that a name resolves to is the very one that is checked and dialled. Redirects are not followed.
package notify
