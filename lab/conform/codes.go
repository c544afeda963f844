package conform

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
)

// codeLine is what a gate without a mail server prints for each code, in whatever else its output holds.
var codeLine = regexp.MustCompile(`to=(\S+) code=(\S+)`)

// Codes collects verification codes from the output of a gate that prints them instead of mailing them. It is an
// io.Writer for that output and safe for concurrent use; the zero value is ready.
type Codes struct {
	mu    sync.Mutex // guards the following
	rest  []byte     // of a line that is not complete
	codes map[string]string
}

// Write takes a part of the output.
func (c *Codes) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(c.rest), "\n")
		if !ok {
			if len(c.rest) > 1<<16 {
				c.rest = nil // no line of a gate's
			}
			return len(b), nil
		}
		c.rest = []byte(rest)
		if m := codeLine.FindStringSubmatch(line); m != nil {
			if c.codes == nil {
				c.codes = map[string]string{}
			}
			c.codes[m[1]] = m[2]
		}
	}
}

var errNoCode = errors.New("conform: no code was printed for that address")

// Code returns the latest code of an address; it is a Target.Code.
func (c *Codes) Code(_ context.Context, email string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code, ok := c.codes[email]; ok {
		return code, nil
	}
	return "", errNoCode
}

// CodesFile returns a Target.Code that reads a file into which a gate's output goes while it runs.
func CodesFile(path string) (func(ctx context.Context, email string) (string, error), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("conform: codes: %w", err)
	}
	var mu sync.Mutex // guards f's position
	codes := new(Codes)
	return func(ctx context.Context, email string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := io.Copy(codes, f); err != nil { // goes on where the last call stopped
			return "", fmt.Errorf("conform: codes: %w", err)
		}
		return codes.Code(ctx, email)
	}, nil
}

// ReadAccounts reads accounts, one a line: e-mail address and password with white space between. Empty lines and those
// that begin with # are passed over.
func ReadAccounts(r io.Reader) (list []Account, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, fmt.Errorf("conform: line %d: want an e-mail address and a password", n)
		}
		list = append(list, Account{Email: words[0], Password: words[1]})
	}
	return list, lines.Err()
}
