package handler

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/wire"
)

// The store and the protocol name the same things without knowing each other.
func TestTheStoreAndTheProtocolAgreeOnGroups(t *testing.T) {
	stored, sent := reflect.TypeFor[store.Event](), reflect.TypeFor[wire.GroupEvent]()
	require.Equal(t, stored.NumField(), sent.NumField())
	for i := range stored.NumField() {
		require.Equal(t, stored.Field(i).Name, sent.Field(i).Name)
		require.Equal(t, stored.Field(i).Type, sent.Field(i).Type)
		require.Equal(t, stored.Field(i).Tag, sent.Field(i).Tag)
	}
	for event, name := range map[string]string{
		store.EventCreated: wire.EventCreated, store.EventJoined: wire.EventJoined, store.EventInvited: wire.EventInvited,
		store.EventLeft: wire.EventLeft, store.EventRemoved: wire.EventRemoved, store.EventRole: wire.EventRole,
		store.EventOwner: wire.EventOwner, store.EventRenamed: wire.EventRenamed, store.EventMuted: wire.EventMuted,
		store.EventUnmuted: wire.EventUnmuted, store.EventMuteAll: wire.EventMuteAll, store.EventHistory: wire.EventHistory,
		store.EventDissolved: wire.EventDissolved,
	} {
		require.Equal(t, event, name)
	}
	require.EqualValues(t, store.KindText, wire.KindText)
	require.EqualValues(t, store.KindEvent, wire.KindEvent)
	require.EqualValues(t, store.KindRecall, wire.KindRecall)
	require.EqualValues(t, store.KindEdit, wire.KindEdit)
	require.Equal(t, store.MaxType, wire.MaxType)
	require.Equal(t, store.MaxHide, wire.MaxHide)
	require.EqualValues(t, store.RoleMember, wire.RoleMember)
	require.EqualValues(t, store.RoleAdmin, wire.RoleAdmin)
	require.EqualValues(t, store.RoleOwner, wire.RoleOwner)
	require.Equal(t, store.MaxGroupName, wire.MaxGroupName)
	require.Equal(t, store.MaxGroupUIDs, wire.MaxGroupUIDs)
	require.Equal(t, store.MaxLinkUses, wire.LinkMaxUses)
	require.Equal(t, store.MinLinkTTL, wire.LinkMinTTLS*time.Second)
	require.Equal(t, store.MaxLinkTTL, wire.LinkMaxTTLS*time.Second)
	require.Equal(t, store.DefaultLinkTTL, wire.LinkDefaultTTLS*time.Second)
}

func TestALinksListFitsAFrame(t *testing.T) {
	page := wire.GroupLinksReply{ThreadID: wire.MaxInt}
	code := make([]byte, wire.MaxLinkCode)
	for i := range code {
		code[i] = 'x'
	}
	for range store.MaxLinks {
		page.Links = append(page.Links, wire.GroupLink{Code: string(code), By: wire.MaxInt, CreatedMS: wire.MaxTimeMS, ExpiresMS: wire.MaxTimeMS, Uses: wire.LinkMaxUses})
	}
	frame, err := wire.EncodeFrame(wire.MsgGroupLinksRsp, page)
	require.NoError(t, err)
	require.Less(t, len(frame), 32<<10)
}
