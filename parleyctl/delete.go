package main

import (
	"context"
	"errors"
	"fmt"
)

type deleteCmd struct {
	gateFlags
	emailFlag
	Password string `help:"Password of the account. If missing, parleyctl asks for it." env:"PARLEY_PASSWORD"`
	Yes      bool   `help:"Do not ask whether you are sure."`
}

// Help is printed below the flags.
func (*deleteCmd) Help() string {
	return "All devices are logged out, friendships end, name and address are free again. Texts that were sent stay with those " +
		"who have them, under the name \"deleted\". There is no way back."
}

// Run deletes the account.
func (c *deleteCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	password, err := e.password(c.Password)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := e.confirm(fmt.Sprintf("Delete the account of %s? Type yes: ", printable(c.Email))); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if err := gate.DeleteAccount(ctx, c.Email, password); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* the account of %s is deleted\n", printable(c.Email))
	return nil
}

// confirm asks a person, and refuses where there is none.
func (e *environment) confirm(question string) error {
	if !e.person {
		return usageError{errors.New("no terminal to ask for confirmation: give --yes")}
	}
	fmt.Fprint(e.err, question)
	var answer string
	if _, err := fmt.Fscanln(e.in, &answer); err != nil || answer != "yes" {
		return errors.New("cancelled")
	}
	return nil
}
