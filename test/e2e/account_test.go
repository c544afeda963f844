package e2e

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// person is a user who registered through the gate.
type person struct {
	name, email, password string
	uid                   int32
}

// register creates an account over HTTP, with a code that the gate printed.
func (w *world) register(t testing.TB, name string) person {
	t.Helper()
	suffix := strings.ToLower(client.NewDraft("").UniqueID[:8])
	p := person{name: name + suffix, email: name + suffix + "@e2e.example", password: "secret-" + suffix}
	code := w.code(t.Context(), t, p.email)
	uid, err := w.gate.Register(t.Context(), client.Registration{Name: p.name, Email: p.email, Password: p.password, Code: code})
	require.NoError(t, err)
	require.Positive(t, uid)
	p.uid = uid
	return p
}

// enter logs a person in at the gate and then at the chat node that it names.
func (w *world) enter(t testing.TB, p person) *client.Conn {
	t.Helper()
	ticket, err := w.gate.Login(t.Context(), p.email, p.password)
	require.NoError(t, err)
	require.Equal(t, p.uid, ticket.UID)
	c, err := enter(t, ticket, client.Options{})
	require.NoError(t, err)
	return c
}

// The complete path of llfcchat: register, log in, be placed on different nodes, become friends, exchange texts.
func TestRegisteredUsersLandOnDifferentNodesAndTalk(t *testing.T) {
	w := sharedCluster(t)
	w.quiet(t)
	ann, bob := w.register(t, "ann"), w.register(t, "bob")
	a := w.enter(t, ann)
	b := w.enter(t, bob)
	require.NotEqual(t, a.Node(), b.Node(), "two clients logging in one after the other")
	require.Equal(t, ann.name, a.Profile().Name)
	require.Empty(t, a.Friends())

	// Users who are not friends cannot write to each other.
	_, err := a.SendText(t.Context(), client.User(bob.uid), "too early")
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))

	found, err := a.Search(t.Context(), bob.name)
	require.NoError(t, err)
	require.Equal(t, bob.uid, found.UID)
	require.NoError(t, a.Apply(t.Context(), bob.uid, "hello bob", "bobby"))
	applied := awaitEvent[client.Applied](t, b)
	require.Equal(t, ann.uid, applied.Application.UID)
	require.Equal(t, "hello bob", applied.Application.Greeting)

	approval, err := b.Approve(t.Context(), ann.uid, "annie")
	require.NoError(t, err)
	require.Equal(t, ann.uid, approval.Friend.UID)
	approved := awaitEvent[client.Approved](t, a)
	require.Equal(t, bob.uid, approved.Friend.UID)
	require.Equal(t, approval.Messages, approved.Messages, "both are told the same messages")
	require.Len(t, approved.Messages, 2)
	require.Equal(t, "hello bob", approved.Messages[0].Text)

	exchange(t, a, b)
	thread := approved.Messages[0].ThreadID
	page, err := b.History(t.Context(), thread, 0, 0)
	require.NoError(t, err)
	require.Len(t, page.Messages, 4)
	for i, m := range page.Messages {
		require.EqualValues(t, i+1, m.ID)
	}

	// The next login lists the friend with the given alias.
	again := w.enter(t, ann)
	require.ErrorIs(t, awaitEnd(t, a, patience), client.ErrReplaced)
	require.Len(t, again.Friends(), 1)
	require.Equal(t, "bobby", again.Friends()[0].Alias)
	require.Empty(t, again.Applications())
}

func TestRegistrationRefusesWrongAndUsedCodesAndTakenNames(t *testing.T) {
	w := sharedCluster(t)
	ann := w.register(t, "ann")
	other := "other" + ann.email
	code := w.code(t.Context(), t, other)
	r := client.Registration{Name: "other" + ann.name, Email: other, Password: "secret-1", Code: "x" + code[1:]}
	_, err := w.gate.Register(t.Context(), r)
	require.Equal(t, client.CodeVarify, client.CodeOf(err), "wrong code")
	r.Code = code
	r.Name = strings.ToUpper(ann.name)
	_, err = w.gate.Register(t.Context(), r)
	require.Equal(t, client.CodeUserExist, client.CodeOf(err), "name taken, whatever the case")
	r.Name = "other" + ann.name
	_, err = w.gate.Register(t.Context(), r)
	require.NoError(t, err)
	r.Name, r.Email = "third"+ann.name, other
	_, err = w.gate.Register(t.Context(), r)
	require.Equal(t, client.CodeVarifyExpired, client.CodeOf(err), "code used up")
	_, err = w.gate.Login(t.Context(), ann.email, ann.password+"x")
	require.Equal(t, client.CodePasswdInvalid, client.CodeOf(err))
	_, err = w.gate.Login(t.Context(), "nobody@e2e.example", ann.password)
	require.Equal(t, client.CodePasswdInvalid, client.CodeOf(err), "an unknown address is answered as a wrong password is")
}

func TestCodeComesByMailAndResetEndsSessions(t *testing.T) {
	w := sharedCluster(t)
	gate, err := client.NewGate("http://" + w.Gate[1].Addr())
	require.NoError(t, err)
	suffix := strings.ToLower(client.NewDraft("").UniqueID[:8])
	p := person{name: "carl" + suffix, email: "carl" + suffix + "@e2e.example", password: "first-" + suffix}
	mailed := func() string {
		t.Helper()
		before := len(suite.mail.read(p.email))
		require.NoError(t, gate.RequestCode(t.Context(), p.email))
		mails := suite.mail.read(p.email)
		require.Len(t, mails, before+1)
		code := sixDigits.FindString(mails[before][strings.Index(mails[before], "\r\n\r\n"):])
		require.NotEmpty(t, code)
		return code
	}
	p.uid, err = gate.Register(t.Context(), client.Registration{Name: p.name, Email: p.email, Password: p.password, Code: mailed()})
	require.NoError(t, err)
	require.NotContains(t, w.Gate[1].Log(), devMail, "a gate that mails prints no codes")
	c := w.enter(t, p)
	unused, err := gate.Login(t.Context(), p.email, p.password)
	require.NoError(t, err)
	resume := c.Ticket()

	require.NoError(t, gate.ResetPassword(t.Context(), p.name, p.email, "second-"+suffix, mailed()))
	require.Error(t, awaitEnd(t, c, patience), "who is logged in with the old password is not any more")
	for what, ticket := range map[string]client.Ticket{"token": unused, "resume ticket": resume} {
		_, err = client.Dial(t.Context(), ticket, client.Options{})
		require.Equal(t, client.CodeTokenInvalid, client.CodeOf(err), what)
	}
	_, err = gate.Login(t.Context(), p.email, p.password)
	require.Equal(t, client.CodePasswdInvalid, client.CodeOf(err))
	p.password = "second-" + suffix
	require.NoError(t, w.enter(t, p).Err())
}

// A row of llfcchat's user table contains the transformed password itself; the first login replaces it by a hash.
func TestLegacyPasswordIsHashedAtTheFirstLogin(t *testing.T) {
	w := sharedCluster(t)
	uid := w.users(t, 1)
	for range 2 {
		ticket, err := w.gate.Login(t.Context(), email(uid), password(uid))
		require.NoError(t, err)
		_, _, err = net.SplitHostPort(ticket.Addr)
		require.NoError(t, err)
		var stored string
		require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT pwd FROM user WHERE uid = ?", uid).Scan(&stored))
		require.Contains(t, stored, "$argon2id$")
	}
}

// awaitEvent reads events until one of type E arrives.
func awaitEvent[E client.Event](t testing.TB, c *client.Conn) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := c.Next(ctx)
		require.NoError(t, err)
		if e, ok := ev.(E); ok {
			return e
		}
	}
}
