// Package command finds the commands that the binary has besides being a server.
package command

import (
	"io"
	"os"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/plugin/status"
)

// commands are the commands by their names. Each is handed its arguments and the standard streams, and returns its exit code.
var commands = map[string]func(args []string, in io.Reader, out, errs io.Writer) int{
	"check":   check.Main,
	"explain": func(args []string, _ io.Reader, out, errs io.Writer) int { return status.Command(args, out, errs) },
}

// Run runs the command that the first argument of the process names, and ends the process. It returns if there is no such
// command, as where CoreDNS's own flags are.
func Run() {
	if len(os.Args) < 2 {
		return
	}
	if run := commands[os.Args[1]]; run != nil {
		os.Exit(run(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
}
