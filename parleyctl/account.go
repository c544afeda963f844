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
	Password string `help:"Password, 6 to 128 characters. If missing, parleyctl asks for it." env:"PARLEY_PASSWORD"`
	Code     string `help:"The mailed code. If missing, parleyctl requests one and asks for it." env:"PARLEY_CODE"`
	Nick     string `help:"Displayed name. Default: the user name."`
	Sex      int32  `help:"The number that the stock client's profile shows as sex."`
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
	var uid int32
	err = e.withCode(gate, c.gateFlags, c.Email, c.Code, func(ctx context.Context, code string) (err error) {
		uid, err = gate.Register(ctx, client.Registration{
			Name: c.Name, Email: c.Email, Password: password, Code: code, Nick: c.Nick, Sex: c.Sex,
		})
		return err
	})
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
	Password string `help:"The new password, 6 to 128 characters. If missing, parleyctl asks for it." env:"PARLEY_PASSWORD"`
	Code     string `help:"The mailed code. If missing, parleyctl requests one and asks for it." env:"PARLEY_CODE"`
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
	err = e.withCode(gate, c.gateFlags, c.Email, c.Code, func(ctx context.Context, code string) error {
		return gate.ResetPassword(ctx, c.Name, c.Email, password, code)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* %s has a new password\n", printable(c.Name))
	return nil
}

type passwdCmd struct {
	gateFlags
	emailFlag
	Password    string `help:"The current password. If missing, parleyctl asks for it." env:"PARLEY_PASSWORD"`
	NewPassword string `help:"The new password, 6 to 128 characters. If missing, parleyctl asks for it." env:"PARLEY_NEW_PASSWORD"`
}

// Run changes the password.
func (c *passwdCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	old, err := e.password(c.Password)
	if err != nil {
		return err
	}
	if e.secret != nil && c.NewPassword == "" {
		fmt.Fprintln(e.err, "* the new password:")
	}
	password, err := e.newPassword(c.NewPassword)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if err := gate.ChangePassword(ctx, c.Email, old, password); err != nil {
		return err
	}
	fmt.Fprintln(e.err, "* the password is changed; all sessions have ended")
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

// codeTries is how often one code may be tried; the gate forgets it then.
const codeTries = 5

// withCode does what needs a code. A person who mistyped the one that was mailed is asked for it again, and for nothing
// else.
func (e *environment) withCode(gate *client.Gate, f gateFlags, email, given string, use func(ctx context.Context, code string) error) error {
	code, err := e.mailedCode(gate, f, email, given)
	for try := 1; err == nil; try++ {
		ctx, cancel := context.WithTimeout(e.ctx, f.Timeout)
		err = use(ctx, code)
		cancel()
		if client.CodeOf(err) != client.CodeVarify || given != "" || try == codeTries {
			return err
		}
		fmt.Fprint(e.err, "That is not the code. Code: ")
		code, err = e.typedCode()
	}
	return err
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
	return e.typedCode()
}

// typedCode reads a code from standard input.
func (e *environment) typedCode() (string, error) {
	if e.typed == nil {
		e.typed = bufio.NewReader(e.in)
	}
	line, err := e.typed.ReadString('\n')
	if code := strings.TrimSpace(line); code != "" {
		return code, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = usageError{errors.New("no code")}
	}
	return "", err
}
