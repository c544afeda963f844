//go:build !linux

package floor

import (
	"context"
	"errors"
)

func serveEpoll(context.Context, int, func(string)) error {
	return errors.New("floor: epoll needs Linux")
}
