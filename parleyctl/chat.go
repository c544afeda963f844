package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"parley/client"
	"parley/internal/obs"
)

type chatCmd struct {
	gateFlags
	emailFlag
	Password string        `help:"Password. It is visible in the process list: prefer PARLEY_PASSWORD or the prompt." env:"PARLEY_PASSWORD"`
	To       string        `help:"Friend to talk to, by name or uid, or group, by name or number; /to changes it." placeholder:"NAME|UID|#GROUP"`
	State    string        `help:"File that records the texts shown, so that the next start shows missed ones. Default on a terminal: one in the user's cache directory; \"-\" for none." placeholder:"FILE"`
	Wait     time.Duration `help:"How long to keep receiving after the end of standard input." default:"0s"`
	Device   string        `help:"Name of this device; a second login with the same one ends the first." default:"cli"`
	Echo     bool          `help:"Print own texts too, in the order of the conversation."`
	transportFlags
}

// Help is printed below the flags.
func (*chatCmd) Help() string {
	return "Lines are texts, lines that begin with / are commands; /help lists them, // begins a text with a slash.\n\n" +
		"Texts are printed to standard output as \"[15:04:05] name: text\", those of a group as \"[15:04:05] name (group): text\"; " +
		"notices go to standard error. At the end of " +
		"standard input everything sent is waited for. The exit status is 1 if anything failed, or, while a person types, only if " +
		"the session did."
}

// Run chats until standard input ends, a signal comes or the session is over.
func (c *chatCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	if c.State == "" && e.stateFile != nil {
		c.State = e.stateFile(c.Gate, c.Email, c.Device)
	}
	if c.State == "-" {
		c.State = ""
	}
	var cursors []client.Cursor
	data := ""
	if c.State != "" {
		if cursors, data, err = loadState(c.State, c.Gate, c.Email); err != nil {
			return err
		}
	}
	password, err := e.password(c.Password)
	if err != nil {
		return err
	}
	gate.Transport = c.Transport
	trust, err := c.config()
	if err != nil {
		return err
	}
	if trust != nil {
		gate.HTTP.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust}
	}
	login, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	s, err := client.Open(login, client.SessionOptions{
		Options: client.Options{Client: "parleyctl/" + obs.ReadBuild().Version, Device: c.Device, RequestTimeout: c.Timeout, TLS: trust},
		Gate:    gate, Email: c.Email, Password: password, Cursors: cursors, Data: data,
	})
	if err != nil {
		return err
	}
	var typed lines = scan(e.in)
	if e.screen != nil {
		screen, restore, err := e.screen(e.ctx)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		defer restore()
		if screen != nil {
			typed, e.out, e.err, c.Echo = screen, screen, screen, true
		}
	}
	t := newTalk(c, e, s)
	t.person, t.fresh = e.person, cursors == nil
	if s, ok := typed.(*screen); ok {
		s.key = t.typing.key
	}
	err = t.run(e, typed)
	s.Close()
	t.wg.Wait()
	if c.State != "" {
		err = errors.Join(err, saveState(c.State, c.Gate, c.Email, s.Data(), s.Cursors()))
	}
	return errors.Join(err, t.print.failure())
}

// errSomeFailed is the end of a script in which something went wrong; what it was has been said.
var errSomeFailed = errors.New("some commands or texts failed")

// maxLine bounds a line of input; longer than any text, so that the text is refused and not the program.
const maxLine = 1 << 20
