// Package terminal is the registry of terminals: which device stands for which merchant and store, what it is called in each protocol, how
// it is activated, and the keys that it holds.
//
// A terminal is a row of the core (payment.Terminal). An identity is what one protocol calls it: a number, unique within the protocol,
// and whatever the device told of itself. One terminal may have several. Secrets are sealed by the vault, bound to the row that they belong
// to, so that a stolen database gives no key away and a key that is moved to another row opens no longer.
package terminal
