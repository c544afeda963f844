package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// execute runs a command line with this standard input.
func execute(t *testing.T, in string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(&environment{ctx: t.Context(), in: strings.NewReader(in), out: &out, err: &errs}, args)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	t.Setenv("PARLEY_PASSWORD", "")
	t.Setenv("PARLEY_EMAIL", "")
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":     {nil, exitUsage, "expected one of"},
		"unknown":     {[]string{"fly"}, exitUsage, "unexpected argument fly"},
		"no email":    {[]string{"chat"}, exitUsage, "--email"},
		"no password": {[]string{"chat", "--email=a@b"}, exitUsage, "PARLEY_PASSWORD"},
		"no code":     {[]string{"register", "--name=a", "--email=a@b", "--password=secret1"}, exitUsage, "parleyctl code"},
		"bad gate":    {[]string{"code", "--email=a@b", "--gate=ftp://x"}, exitUsage, "--gate"},
		"bad wait":    {[]string{"chat", "--email=a@b", "--wait=long"}, exitUsage, "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := execute(t, "", c.args...)
			require.Equal(t, c.code, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.want)
		})
	}
	code, stdout, _ := execute(t, "", "chat", "--help")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "[15:04:05] name: text")
	code, stdout, _ = execute(t, "", "--version")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "parleyctl ")
}

func TestNoCluster(t *testing.T) {
	// Nobody listens on port 1; a port that was just given back may be another test's by now.
	code, _, stderr := execute(t, "", "chat", "--email=a@b", "--password=secret1", "--gate=127.0.0.1:1")
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, "is the cluster running?")
	require.NotContains(t, stderr, "secret1")
}

func TestAccounts(t *testing.T) {
	var paths []string
	reply := `{"error":0,"uid":1001}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		w.Write([]byte(reply))
	}))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	gate := "--gate=" + srv.URL

	code, stdout, stderr := execute(t, "", "code", gate, "--email=a@b")
	require.Equal(t, exitOK, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "a@b")
	code, _, stderr = execute(t, "", "register", gate, "--name=alice", "--email=a@b", "--password=secret1", "--code=123456")
	require.Equal(t, exitOK, code)
	require.Contains(t, stderr, "uid 1001")
	require.NotContains(t, stderr, "secret1")
	code, _, _ = execute(t, "", "reset-password", gate, "--name=alice", "--email=a@b", "--password=secret1", "--code=123456")
	require.Equal(t, exitOK, code)
	require.Equal(t, []string{"/get_varifycode", "/user_register", "/reset_pwd"}, paths)

	// A person is asked for what is missing.
	var errs bytes.Buffer
	asked := 0
	e := &environment{
		ctx: t.Context(), in: strings.NewReader("123456\n"), out: &errs, err: &errs, person: true,
		secret: func(context.Context, string) (string, error) { asked++; return "secret1", nil },
	}
	require.Equal(t, exitOK, run(e, []string{"register", gate, "--name=alice", "--email=a@b"}))
	require.Equal(t, 2, asked)
	require.Equal(t, []string{"/get_varifycode", "/user_register"}, paths[3:])
	passwords := []string{"secret1", "secret2"}
	e.secret = func(context.Context, string) (string, error) {
		p := passwords[0]
		passwords = passwords[1:]
		return p, nil
	}
	require.Equal(t, exitUsage, run(e, []string{"reset-password", gate, "--name=alice", "--email=a@b"}))
	require.Contains(t, errs.String(), "differ")

	reply = `{"error":2003,"retry_ms":1500}`
	code, _, stderr = execute(t, "", "code", gate, "--email=a@b")
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, "too many requests (2003); try again in 1.5s")
}

// F15: a wrong code asks for the code again, not for everything.
func TestWrongCodeAsksForTheCodeAlone(t *testing.T) {
	for _, command := range []string{"register", "reset-password"} {
		var codes []string
		mails := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var in struct {
				Code string `json:"varifycode"`
			}
			_ = json.NewDecoder(r.Body).Decode(&in)
			reply := `{"error":0,"uid":1001}`
			switch {
			case r.URL.Path == "/get_varifycode":
				mails++
			case in.Code != "123456":
				reply = `{"error":1004}`
				fallthrough
			default:
				codes = append(codes, in.Code)
			}
			_, _ = w.Write([]byte(reply))
		}))
		var errs bytes.Buffer
		asked := 0
		e := &environment{
			ctx: t.Context(), in: strings.NewReader("111111\n222222\n123456\n"), out: &errs, err: &errs, person: true,
			secret: func(context.Context, string) (string, error) { asked++; return "secret1", nil },
		}
		require.Equal(t, exitOK, run(e, []string{command, "--gate=" + srv.URL, "--name=alice", "--email=a@b"}))
		require.Equal(t, []string{"111111", "222222", "123456"}, codes)
		require.Equal(t, 1, mails)
		require.Equal(t, 2, asked, "the password was asked for twice, once")

		codes = nil
		e.in, e.typed = strings.NewReader(strings.Repeat("999999\n", 9)), nil
		require.Equal(t, exitFail, run(e, []string{command, "--gate=" + srv.URL, "--name=alice", "--email=a@b"}))
		require.Len(t, codes, codeTries)
		codes = nil
		require.Equal(t, exitFail, run(e, []string{command, "--gate=" + srv.URL, "--name=alice", "--email=a@b", "--password=secret1", "--code=1"}))
		require.Len(t, codes, 1, "a code on the command line is not asked for")
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	}
}

func TestPasswd(t *testing.T) {
	var got map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/change_password" {
			_ = json.NewDecoder(r.Body).Decode(&got)
		}
		_, _ = w.Write([]byte(`{"error":0}`))
	}))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	want := map[string]any{"email": "a@b", "passwd": "secret1", "newpasswd": "secret2", "plain": true}
	code, _, stderr := execute(t, "", "passwd", "--gate="+srv.URL, "--email=a@b", "--password=secret1", "--new-password=secret2")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, want, got)
	require.NotContains(t, stderr, "secret")

	got = nil
	typed := []string{"secret1", "secret2", "secret2"}
	var errs bytes.Buffer
	e := &environment{ctx: t.Context(), in: strings.NewReader(""), out: &errs, err: &errs, person: true}
	e.secret = func(context.Context, string) (string, error) {
		p := typed[0]
		typed = typed[1:]
		return p, nil
	}
	require.Equal(t, exitOK, run(e, []string{"passwd", "--gate=" + srv.URL, "--email=a@b"}))
	require.Equal(t, want, got)
	code, _, _ = execute(t, "", "passwd", "--gate="+srv.URL, "--email=a@b", "--password=secret1")
	require.Equal(t, exitUsage, code)
}

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	cursors, data, err := loadState(path, "g", "a@b")
	require.NoError(t, err)
	require.Nil(t, cursors, "no file: begin at the present")
	require.Empty(t, data)
	require.NoError(t, saveState(path, "g", "a@b", "", nil))
	cursors, _, err = loadState(path, "g", "a@b")
	require.NoError(t, err)
	require.NotNil(t, cursors, "a file without threads: everything is new")
	require.NoError(t, saveState(path, "g", "a@b", "d1", []client.Cursor{{ThreadID: 7, LastID: 12}}))
	cursors, data, err = loadState(path, "g", "a@b")
	require.NoError(t, err)
	require.Equal(t, []client.Cursor{{ThreadID: 7, LastID: 12}}, cursors)
	require.Equal(t, "d1", data)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, _, err = loadState(path, "g", "other@b")
	require.ErrorContains(t, err, "belongs to a@b")
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	_, _, err = loadState(path, "g", "a@b")
	require.ErrorContains(t, err, "not a state file")
	require.Error(t, saveState(filepath.Join(path, "below", "a", "file"), "g", "a@b", "", nil))
}

func TestPrinter(t *testing.T) {
	var out, errs bytes.Buffer
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	p := &printer{out: &out, err: &errs, now: func() time.Time { return noon }}
	p.text("bob", client.Message{Text: "hi ✓", Time: time.Date(2026, 5, 4, 9, 8, 7, 0, time.UTC)})
	p.text("bob", client.Message{Text: "a\n[09:08:07] eve: b\r\t\x1b[2J\u202e\u0085", Time: time.Date(2026, 5, 3, 9, 8, 7, 0, time.UTC)})
	require.Equal(t, "[09:08:07] bob: hi ✓\n[2026-05-03 09:08:07] bob: a\\n[09:08:07] eve: b\\r\\t\\x1b[2J\\u202e\\x85\n", out.String())
	p.notice("x %d", 1)
	require.Equal(t, "* x 1\n", errs.String())
	require.NoError(t, p.failure())
	p.out = failing{}
	p.text("bob", client.Message{Text: "x"})
	require.ErrorIs(t, p.failure(), errFull)
}

var errFull = errors.New("disk full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestFindFriend(t *testing.T) {
	friend := func(uid int32, name, alias string) client.Friend {
		return client.Friend{Profile: client.Profile{UID: uid, Name: name}, Alias: alias}
	}
	friends := []client.Friend{friend(1, "Bob", ""), friend(2, "bob", "carol"), friend(3, "carol", ""), friend(4, "1", "")}
	for who, want := range map[string]int32{"bob": 2, "Bob": 1, "BOB": 1, "carol": 3, "3": 3, "1": 4, "dave": 0} {
		p, ok := findFriend(friends, who)
		require.Equal(t, want, p.UID, who)
		require.Equal(t, want != 0, ok)
	}
}

func TestExplain(t *testing.T) {
	require.Contains(t, explain(client.ErrReplaced), "--device")
	require.Contains(t, explain(context.DeadlineExceeded), "--timeout")
}
