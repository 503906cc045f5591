// Package command runs the commands of the binary other than the server.
package command

import (
	"io"
	"os"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/plugin/status"
)

// commands are the commands by their names. Each gets its arguments and the standard streams, and returns its exit
// code.
var commands = map[string]func(args []string, in io.Reader, out, errs io.Writer) int{
	"check":   check.Main,
	"explain": func(args []string, _ io.Reader, out, errs io.Writer) int { return status.Command(args, out, errs) },
}

// Run runs the command that the first argument of the process names, and ends the process. It returns if there is no
// such command, as with CoreDNS's own flags.
func Run() {
	if len(os.Args) < 2 {
		return
	}
	if run := commands[os.Args[1]]; run != nil {
		os.Exit(run(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
}
