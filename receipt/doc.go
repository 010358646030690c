// Package receipt composes what a terminal prints. A Slip is data; Compose makes a Document of it, in English, French or Traditional Chinese;
// a Document becomes text, or bytes for a printer of the ESC/POS family, on paper of 58 or 80 mm.
//
// What is printed follows the IOT Pay reference, section 9.2, which is the union of what Canadian acquirers ask for: receipts of declined
// and cancelled payments too, the expiry date never, of a card's number the last four digits.
package receipt
