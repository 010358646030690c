// Package admin is the operators' API: merchants, stores, terminals, credentials, payment methods, activation codes and the ledger, over
// HTTP with JSON. The command line and the portal use it; docs/admin-api.json describes it as OpenAPI 3.1, made from the routes themselves.
//
// Every call needs the operator's token. Whoever has it can let terminals in and read every total, so it is served on the server's own
// address only when that is wanted (docs/configuration.md).
package admin
