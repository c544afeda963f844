package obs

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// readyEvery is the time between two looks at the dependencies while systemd waits for a node to be ready.
const readyEvery = 100 * time.Millisecond

// notifyReady tells systemd once that the node is ready, as /readyz means it. It returns then or when ctx ends, and at once
// outside of a unit with Type=notify.
func (o *Ops) notifyReady(ctx context.Context) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	again := time.NewTicker(readyEvery)
	defer again.Stop()
	for !o.readiness(ctx).Ready {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
	notifySystemd(o.log, daemon.SdNotifyReady)
}

// notifySystemd sends a state to systemd; without NOTIFY_SOCKET in the environment it does nothing. A state that cannot be
// sent is logged.
func notifySystemd(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be notified", "state", state, "err", err)
	}
}
