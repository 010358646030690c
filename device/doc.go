// Package device is a card terminal: the program in the shop that takes cards, PINs and wallet codes.
//
// A Terminal has parts behind small interfaces (part.go), one or more Links to servers, and a journal. Over a Link the server gives orders, and
// the terminal makes calls (package terminal has the wire). It does one thing for customers at a time. The parts may be hardware; Virtual is
// all of them in memory, for the page in a browser (page.go) and for automatic customers (customer.go).
//
// What must hold, and where it is held:
//
//   - An order is never carried out twice: its ID is in the journal before anything happens, and the journal outlives the process.
//   - A PIN leaves the PIN pad only as a PIN block; card data leaves the terminal only for the server, in one call, and is in no file.
//   - A receipt tells what the books say: when the line is cut after a card was sent, the terminal asks for the outcome until it knows, and
//     prints that.
//   - A card that refuses what the host approved ends the sale, if the server can still tell the till so; else the sale stands, as the receipt
//     says.
package device
