package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"parley/client"
)

// state is what --state keeps from one run to the next: how far the user has read each thread. It holds no secret.
type state struct {
	Gate    string          `json:"gate"`
	Email   string          `json:"email"`
	Data    string          `json:"data,omitempty"` // which body of data the server had then
	Threads map[int64]int64 `json:"threads"`        // thread id -> id of the last text shown
}

// loadState returns the cursors in the file, and of which data they are, or nil if there is no file yet. A file of another user is refused: its threads
// are not this user's.
func loadState(path, gate, email string) (cursors []client.Cursor, data string, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("--state: %w", err)
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil || s.Threads == nil {
		return nil, "", fmt.Errorf("--state: %s is not a state file of parleyctl", path)
	}
	if s.Gate != gate || s.Email != email {
		return nil, "", fmt.Errorf("--state: %s belongs to %s at %s", path, s.Email, s.Gate)
	}
	cursors = make([]client.Cursor, 0, len(s.Threads))
	for thread, id := range s.Threads {
		cursors = append(cursors, client.Cursor{ThreadID: thread, LastID: id})
	}
	return cursors, s.Data, nil
}

// saveState replaces the file as a whole, so that a crash leaves the old or the new one.
func saveState(path, gate, email, data string, cursors []client.Cursor) error {
	s := state{Gate: gate, Email: email, Data: data, Threads: make(map[int64]int64, len(cursors))}
	for _, c := range cursors {
		s.Threads[c.ThreadID] = c.LastID
	}
	raw, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".parleyctl-*") // mode 0600
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	_, err = tmp.Write(append(raw, '\n'))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("--state: %w", err)
	}
	return nil
}

// stateFile returns the file in the user's cache directory that is for one device of a user. "" if there is no such place.
func stateFile(gate, email, device string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(cache, "parley")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{gate, email, device}, "\x00")))
	return filepath.Join(dir, "chat-"+hex.EncodeToString(sum[:8])+".json")
}
