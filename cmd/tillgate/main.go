// Command tillgate takes payments from tills that speak any of five published protocols. See README.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitOK    = 0
	exitError = 1 // It was tried and failed.
	exitUsage = 2 // The command line is wrong.
)

// cli is the whole command line.
type cli struct {
	Dev        devCommand        `cmd:"" help:"Run everything on this machine, with demo merchants and a sandbox that behaves like real wallets."`
	Env        envCommand        `cmd:"" help:"Print the addresses and tokens of a running dev as shell variables: eval \"$(tillgate env)\"."`
	Serve      serveCommand      `cmd:"" help:"Run the server, for production."`
	Sandbox    sandboxCommand    `cmd:"" help:"Run the sandbox alone, for tests of a server, or reset its cards."`
	Bench      benchCommand      `cmd:"" help:"Measure how many payments a second this machine takes durably, and check that each was taken once."`
	Ledger     ledgerCommand     `cmd:"" help:"Show a merchant's journal entries, or its balances."`
	Card       cardCommand       `cmd:"" help:"Play a card terminal of UQPAY against any server."`
	Upay       upayCommand       `cmd:"" help:"Play a till of Upay against any server."`
	Ecr        ecrCommand        `cmd:"" help:"Play a cash register of QFPay beside a terminal."`
	Describe   describeCommand   `cmd:"" help:"Explain an ISO 8583 frame, a chip's TLV string or a PIN-key envelope, secrets masked."`
	Batch      batchCommand      `cmd:"" help:"Close and list settlement batches."`
	Merchant   merchantCommand   `cmd:"" help:"Add, list, enable and disable merchants."`
	Store      storeCommand      `cmd:"" help:"Add, list, enable and disable stores."`
	Terminal   terminalCommand   `cmd:"" help:"Add, list, enable and disable terminals."`
	Code       codeCommand       `cmd:"" help:"Make, list and end activation codes, with which terminals let themselves in."`
	Vendor     vendorCommand     `cmd:"" help:"Add and list the vendors whose software activates terminals."`
	Settings   settingsCommand   `cmd:"" help:"Show and set a merchant's settings for a protocol."`
	Vault      vaultCommand      `cmd:"" help:"Rotate the key under which keys and card numbers are sealed."`
	Webhook    webhookCommand    `cmd:"" help:"Add, list and remove the addresses to which merchants want events."`
	Credential credentialCommand `cmd:"" help:"Add, list, enable and disable what callers prove themselves with."`
	Method     methodCommand     `cmd:"" help:"Set and list the payment methods that a merchant takes."`
}

// env is what commands have of the world.
type env struct {
	ctx    context.Context
	getenv func(string) string
	stdout io.Writer
	stderr io.Writer
}

// run is the program: tests call it as main does.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	var exited *int
	parser, err := kong.New(&cli{},
		kong.Name("tillgate"),
		kong.Description("Tillgate takes each payment exactly once: tills of five published protocols in front, wallets and card hosts behind."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = &code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(stderr, "tillgate:", err)
		return exitError
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited != nil { // --help has been printed.
		return *exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "tillgate: %v\nTry: tillgate --help\n", err)
		return exitUsage
	}
	if err := command.Run(&env{ctx, getenv, stdout, stderr}); err != nil {
		fmt.Fprintln(stderr, "tillgate:", err)
		return exitError
	}
	return exitOK
}
