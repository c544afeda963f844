package standalone

import (
	"context"
	"errors"
	"fmt"

	"parley/internal/gate"
	"parley/internal/store"
	"parley/web"
)

// DemoUser is a user that a demonstration starts with. Its password is public.
type DemoUser struct {
	Name, Email, Password string
}

// Demo are the two users of a demonstration, friends of each other.
var Demo = [2]DemoUser{
	{Name: "alice", Email: "alice@example.com", Password: "alice-demo"},
	{Name: "bob", Email: "bob@example.com", Password: "bob-demo"},
}

// demoUsers are the users whom the chat page offers.
func (c *Cluster) demoUsers() (users []web.DemoUser) {
	if c.opt.Demo {
		for _, u := range Demo {
			users = append(users, web.DemoUser(u))
		}
	}
	return users
}

// makeDemo creates the users that do not exist, and their friendship.
func (c *Cluster) makeDemo(ctx context.Context) error {
	var uids [2]int32
	for i, u := range Demo {
		found, err := c.store.Users.Credentials(ctx, u.Email)
		if errors.Is(err, store.ErrNotFound) {
			found.UID, err = c.store.Users.Create(ctx, store.NewUser{
				Name: u.Name, Email: u.Email, PasswordHash: gate.HashPassword(u.Password), Nick: u.Name,
				Icon: fmt.Sprintf(":/res/head_%d.jpg", i+1),
			})
		}
		if err != nil {
			return fmt.Errorf("standalone: demo user %s: %w", u.Name, err)
		}
		uids[i] = found.UID
	}
	if _, err := c.store.Seed.Friends(ctx, [][2]int32{uids}); err != nil {
		return fmt.Errorf("standalone: demo friendship: %w", err)
	}
	return nil
}
