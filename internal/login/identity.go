package login

import (
	"context"
	"log/slog"
	"sync"
)

// dataID is the id of the body of data in SQL, read once in each life of the node: data that is replaced has no fence row
// of this life, which ends it.
type dataID struct {
	log  *slog.Logger
	read func(context.Context) (string, error)

	mu       sync.Mutex // guards the following
	boot, id string
}

// of returns the id for a life of the node, "" if it could not be read.
func (d *dataID) of(ctx context.Context, boot string) string {
	d.mu.Lock()
	id, known := d.id, d.boot == boot
	d.mu.Unlock()
	if known {
		return id
	}
	id, err := d.read(ctx)
	if err != nil {
		d.log.Warn("id of the data not read; clients are not told", "err", err)
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boot, d.id = boot, id
	return id
}
