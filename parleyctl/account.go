package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"parley/client"
)

type codeCmd struct {
	gateFlags
	emailFlag
}

// emailFlag says who the user is.
type emailFlag struct {
	Email string `required:"" help:"E-mail address of the account." env:"PARLEY_EMAIL"`
}

// Validate refuses an empty address, which an empty environment variable makes.
func (f *emailFlag) Validate() error {
	if f.Email == "" {
		return errors.New("--email is empty")
	}
	return nil
}

// Run asks the gate to mail a code.
func (c *codeCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if err := gate.RequestCode(ctx, c.Email); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* a code is on its way to %s\n", printable(c.Email))
	return nil
}

type registerCmd struct {
	gateFlags
	emailFlag
	Name     string `required:"" help:"User name; others find you by it."`
	Password string `help:"Password, 6 to 128 characters. Without it, it is asked for." env:"PARLEY_PASSWORD"`
	Code     string `help:"The code that was mailed. Without it, one is mailed and asked for." env:"PARLEY_CODE"`
	Nick     string `help:"Displayed name. Default: the user name."`
}

// Run makes an account and prints its uid.
func (c *registerCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	password, err := e.newPassword(c.Password)
	if err != nil {
		return err
	}
	code, err := e.mailedCode(gate, c.gateFlags, c.Email, c.Code)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	uid, err := gate.Register(ctx, client.Registration{Name: c.Name, Email: c.Email, Password: password, Code: code, Nick: c.Nick})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* registered %s as uid %d\n", printable(c.Name), uid)
	return nil
}

type resetCmd struct {
	gateFlags
	emailFlag
	Name     string `required:"" help:"User name."`
	Password string `help:"The new password, 6 to 128 characters. Without it, it is asked for." env:"PARLEY_PASSWORD"`
	Code     string `help:"The code that was mailed. Without it, one is mailed and asked for." env:"PARLEY_CODE"`
}

// Run sets a new password.
func (c *resetCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	password, err := e.newPassword(c.Password)
	if err != nil {
		return err
	}
	code, err := e.mailedCode(gate, c.gateFlags, c.Email, c.Code)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if err := gate.ResetPassword(ctx, c.Name, c.Email, password, code); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* %s has a new password\n", printable(c.Name))
	return nil
}

var errNoPassword = usageError{errors.New("no password: set PARLEY_PASSWORD or give --password")}

// password returns given, or asks for it.
func (e *environment) password(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if e.secret == nil {
		return "", errNoPassword
	}
	p, err := e.secret(e.ctx, "Password: ")
	if err != nil {
		return "", err
	}
	if p == "" {
		return "", errNoPassword
	}
	return p, nil
}

// newPassword is password, asked for twice.
func (e *environment) newPassword(given string) (string, error) {
	p, err := e.password(given)
	if err != nil || given != "" {
		return p, err
	}
	again, err := e.secret(e.ctx, "The same again: ")
	if err != nil {
		return "", err
	}
	if again != p {
		return "", usageError{errors.New("the two passwords differ")}
	}
	return p, nil
}

// mailedCode returns given, or has a code mailed and asks for it.
func (e *environment) mailedCode(gate *client.Gate, f gateFlags, email, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if !e.person {
		return "", usageError{errors.New("no code: run \"parleyctl code\" and give --code")}
	}
	ctx, cancel := context.WithTimeout(e.ctx, f.Timeout)
	defer cancel()
	if err := gate.RequestCode(ctx, email); err != nil {
		return "", err
	}
	fmt.Fprintf(e.err, "Code mailed to %s: ", printable(email))
	line, err := bufio.NewReader(e.in).ReadString('\n')
	if code := strings.TrimSpace(line); code != "" {
		return code, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = usageError{errors.New("no code")}
	}
	return "", err
}
