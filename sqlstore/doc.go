// Package sqlstore is payment.Store in SQL: on SQLite, which needs nothing beside the program.
//
// SQL is written as SQL, in the file that uses it, and has one text for every engine: parameters are $1, $2 and so on, numbers, booleans
// and times are BIGINT, binary is hexadecimal text, and an insert that may find its row there says ON CONFLICT DO NOTHING and then reads,
// so that no error needs to be understood. What differs is in dialect.go. Statements that cannot name a merchant say so in a comment.
//
// On SQLite one connection writes, and commits in groups: work that waits while a commit is on its way to the disk shares the next one.
// Each piece of work runs in a savepoint of its own, and nobody is answered before COMMIT has returned. When a group fails it is run
// again, one transaction each. Readers have connections of their own and disturb nobody.
//
// A data folder belongs to one server process. Operators' commands open it beside the server (Config.Tool).
package sqlstore
