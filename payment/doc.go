// Package payment is the core of Tillgate: what a payment is, which states it has, and the Engine that takes each one exactly once.
//
// The words are the project's own, and protocol packages translate into them:
//
//   - A payment is the intention to collect one amount. Its key makes a repeat a repeat.
//   - An operation is one message that is owed to an acquirer: sale, authorize, capture, void, reversal, refund, cancel, close. It has
//     a row before it has bytes on a wire.
//   - An attempt is a payment's sale or authorize operation: one try to get it approved by one acquirer.
//   - An outcome is approved, declined, waiting (somebody must still act) or unknown (no answer: the money may have moved).
//
// Cancel ends a payment at the till's request. Close ends one that nobody has paid in time; unlike a cancel it never gives money back,
// so its answer decides between expired and approved. Reverse undoes what is unknown or must not stand. Void gives back all that is
// left, the fee too. Refund gives back a part or all, and the fee stays.
//
// The package imports no database, network or protocol. It declares the Store, Acquirer, Vault and Signal that it needs.
package payment
