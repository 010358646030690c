// Package sqlstore is payment.Store in SQL: on SQLite, which needs nothing beside the program, and on PostgreSQL, for several processes.
//
// SQL is written as SQL, in the file that uses it, and has one text for both engines: parameters are $1, $2 and so on, numbers, booleans
// and times are BIGINT, binary is hexadecimal text, and an insert that may find its row there says ON CONFLICT DO NOTHING and then reads,
// so that no error needs to be understood. What differs is in dialect.go, and terms.go is for PostgreSQL only. Statements that cannot name a
// merchant say so in a comment.
//
// Whoever writes a closure for InTx may count on READ COMMITTED and no more, whatever the engine. What it has read may be changed by
// others before it commits, unless it writes that row itself by compare-and-set: so a decision that rests on a row has to write the row.
// A statement that changes no row though it had to fails the whole transaction, and may do so later than it was called: closures return
// the errors that they get, and do not go on.
//
// # SQLite
//
// One connection writes, and commits in groups: work that waits while a commit is on its way to the disk shares the next one.
// Each piece of work runs in a savepoint of its own, and nobody is answered before COMMIT has returned. When a group fails it is run
// again, one transaction each. Readers have connections and goroutines of their own and disturb nobody.
//
// A data folder belongs to one server process. Operators' commands open it beside the server (Config.Tool).
//
// # PostgreSQL
//
// Any number of processes share a database. Each runs at READ COMMITTED, with synchronous_commit on, whatever the server's default, and
// refuses a server that recovers (a replica), runs without fsync, or sorts text otherwise than by its bytes. A process has up to 24
// connections; a pooler between has to work in session mode.
//
// Commits are grouped here too, but differently. What a closure writes by keys and compare-and-set is not sent when it is called for but
// kept until the closure has ended, and then goes to the server in one message with its COMMIT: no row is locked while we compute, and a
// process that is stopped holds none. One connection takes all that has gathered and makes one transaction of it, in which rows of one
// table are written by one statement; when it is late, a few others help. That costs the server 0.4 times what a transaction for each
// does (measured with 64 callers), most of which is the preparation of statements and the reading of CHECKs for each, and lets durable
// throughput rise with load as on SQLite.
// It has two prices, and both are bounded. Work in a group fails with it: then halves of the group are tried, down to the piece that
// fails, and that one runs alone. And it waits with it for rows that others have: for 100 ms, after which all of it runs alone. On a server
// that spreads merchants over several hosts, a group would be a distributed transaction: set groupMax to 1 there.
//
// The first insert of a key is taken to succeed, so that taking a payment needs one message; if the key was there after all, or the
// closure fails on that ground, it is run again with care. A closure that needs to know at once what a statement has changed, such as a
// claim, begins a transaction on a connection of its own.
//
// When the server goes away, work fails with payment.ErrUnavailable and connections are made again when they are wanted. If that happens
// between COMMIT and its answer, nobody can know whether the work is durable. InTx says so and does not run it again: a caller that
// repeats its request finds its key, and owed rows settle the rest.
package sqlstore
