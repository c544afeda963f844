package standalone

import (
	"context"
	"fmt"

	"parley/internal/store"
)

// CrowdFirst is the uid of the first user of a crowd; the others count up.
const CrowdFirst int32 = 1_000_001

// makeCrowd creates users for load tests, friends in pairs: the first and the second, the third and the fourth. Nobody can
// log in as one of them with a password; who wants to asks the status server for a token.
func (c *Cluster) makeCrowd(ctx context.Context, n int) error {
	users := make([]store.NewUser, n)
	pairs := make([][2]int32, 0, n/2)
	for i := range users {
		name := fmt.Sprintf("bench%d", CrowdFirst+int32(i))
		users[i] = store.NewUser{Name: name, Email: name + "@example.com", PasswordHash: "!", Nick: name}
		if i%2 == 1 {
			pairs = append(pairs, [2]int32{CrowdFirst + int32(i) - 1, CrowdFirst + int32(i)})
		}
	}
	if err := c.store.Seed.Users(ctx, CrowdFirst, users); err != nil {
		return fmt.Errorf("standalone: crowd: %w", err)
	}
	if _, err := c.store.Seed.Friends(ctx, pairs); err != nil {
		return fmt.Errorf("standalone: crowd: %w", err)
	}
	return nil
}
