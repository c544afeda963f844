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

// codeLine matches the line that a gate without a mail server prints for each code, among its other output.
var codeLine = regexp.MustCompile(`to=(\S+) code=(\S+)`)

// Codes collects verification codes from the output of a gate that prints them instead of mailing them. It is an
// io.Writer for that output. It is safe for concurrent use; the zero value is ready for use.
type Codes struct {
	mu    sync.Mutex // guards the following
	rest  []byte     // an incomplete line
	codes map[string]string
}

// Write receives a part of the output.
func (c *Codes) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(c.rest), "\n")
		if !ok {
			if len(c.rest) > 1<<16 {
				c.rest = nil // too long for a line of a gate
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

// Code returns the latest code for an address. It can serve as Target.Code.
func (c *Codes) Code(_ context.Context, email string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code, ok := c.codes[email]; ok {
		return code, nil
	}
	return "", errNoCode
}

// CodesFile returns a Target.Code that reads a file to which a running gate's output is written.
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
		if _, err := io.Copy(codes, f); err != nil { // continues where the last call stopped
			return "", fmt.Errorf("conform: codes: %w", err)
		}
		return codes.Code(ctx, email)
	}, nil
}

// ReadAccounts reads accounts, one per line: e-mail address and password separated by white space. It ignores empty
// lines and those that begin with #.
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
