package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// groupBodies are the requests about groups, by id.
func groupBodies() map[MsgID]GroupBody {
	return map[MsgID]GroupBody{
		MsgGroupCreate: new(GroupCreateRequest), MsgGroupInfo: new(GroupRequest), MsgGroupMembers: new(GroupMembersRequest),
		MsgGroupInvite: new(GroupInviteRequest), MsgGroupLeave: new(GroupRequest), MsgGroupRemove: new(GroupRemoveRequest),
		MsgGroupRole: new(GroupRoleRequest), MsgGroupChange: new(GroupChangeRequest), MsgGroupMute: new(GroupMuteRequest),
		MsgGroupDissolve: new(GroupRequest), MsgGroupLink: new(GroupLinkRequest), MsgGroupLinks: new(GroupRequest),
		MsgGroupRevoke: new(GroupRevokeRequest), MsgGroupJoin: new(GroupJoinRequest),
	}
}

func TestDecodeGroup(t *testing.T) {
	name, yes, no := "the band", true, false
	uids := func(n int) string { return strings.TrimSuffix(strings.Repeat("7,", n), ",") }
	for _, tc := range []struct {
		id   MsgID
		body string
		want GroupBody // nil: refused with 2005
	}{
		{MsgGroupCreate, `{"name":"the band","unique_id":"u","uids":[2,3]}`, &GroupCreateRequest{Name: name, UniqueID: "u", UIDs: []int32{2, 3}}},
		{MsgGroupCreate, `{"name":"the band","unique_id":"u"}`, &GroupCreateRequest{Name: name, UniqueID: "u"}},
		{MsgGroupCreate, `{"name":"the band"}`, nil},
		{MsgGroupCreate, `{"name":"the band","unique_id":"\ud800"}`, nil},
		{MsgGroupCreate, `{"name":"the band","unique_id":"` + strings.Repeat("u", 65) + `"}`, nil},
		{MsgGroupCreate, `{"unique_id":"u"}`, nil},
		{MsgGroupCreate, `{"name":"the band","unique_id":"u","uids":[0]}`, nil},
		{MsgGroupCreate, `{"name":"the band","unique_id":"u","uids":[` + uids(101) + `]}`, nil},
		{MsgGroupInfo, `{"thread_id":77}`, &GroupRequest{ThreadID: 77}},
		{MsgGroupInfo, `{"thread_id":0}`, nil},
		{MsgGroupInfo, `{"thread_id":2147483648}`, nil},
		{MsgGroupMembers, `{"thread_id":77,"after_uid":5,"limit":500}`, &GroupMembersRequest{GroupRequest{77}, 5, 500}},
		{MsgGroupMembers, `{"thread_id":77,"limit":501}`, nil},
		{MsgGroupInvite, `{"thread_id":77,"uids":[2]}`, &GroupInviteRequest{GroupRequest{77}, []int32{2}}},
		{MsgGroupInvite, `{"thread_id":77,"uids":[]}`, nil},
		{MsgGroupInvite, `{"uids":[2]}`, nil},
		{MsgGroupRemove, `{"thread_id":77,"uid":2}`, &GroupRemoveRequest{GroupRequest{77}, 2}},
		{MsgGroupRemove, `{"thread_id":77}`, nil},
		{MsgGroupRole, `{"thread_id":77,"uid":2,"role":1}`, &GroupRoleRequest{GroupRequest{77}, 2, RoleAdmin}},
		{MsgGroupRole, `{"thread_id":77,"uid":2,"role":3}`, nil},
		{MsgGroupRole, `{"thread_id":77,"uid":2,"role":-1}`, nil},
		{MsgGroupChange, `{"thread_id":77,"name":"the band"}`, &GroupChangeRequest{GroupRequest: GroupRequest{77}, Name: &name}},
		{
			MsgGroupChange, `{"thread_id":77,"mute_all":true,"history_for_new":false}`,
			&GroupChangeRequest{GroupRequest: GroupRequest{77}, MuteAll: &yes, HistoryForNew: &no},
		},
		{MsgGroupChange, `{"thread_id":77}`, nil},
		{MsgGroupChange, `{"thread_id":77,"name":""}`, nil},
		{MsgGroupMute, `{"thread_id":77,"uid":2,"until_ms":253402300799999}`, &GroupMuteRequest{GroupRequest{77}, 2, MaxTimeMS}},
		{MsgGroupMute, `{"thread_id":77,"uid":2,"until_ms":0}`, &GroupMuteRequest{GroupRequest{77}, 2, 0}},
		{MsgGroupMute, `{"thread_id":77,"uid":2,"until_ms":-1}`, nil},
		{MsgGroupMute, `{"thread_id":77,"uid":2,"until_ms":253402300800000}`, nil},
		{MsgGroupLink, `{"thread_id":77}`, &GroupLinkRequest{GroupRequest{77}, LinkDefaultTTLS, LinkDefaultUses}},
		{MsgGroupLink, `{"thread_id":77,"ttl_s":60,"uses":10000}`, &GroupLinkRequest{GroupRequest{77}, 60, 10000}},
		{MsgGroupLink, `{"thread_id":77,"ttl_s":59}`, nil},
		{MsgGroupLink, `{"thread_id":77,"ttl_s":2592001}`, nil},
		{MsgGroupLink, `{"thread_id":77,"uses":10001}`, nil},
		{MsgGroupLink, `{"thread_id":77,"uses":-1}`, nil},
		{MsgGroupRevoke, `{"thread_id":77,"code":"aZ0_-"}`, &GroupRevokeRequest{GroupRequest{77}, "aZ0_-"}},
		{MsgGroupRevoke, `{"thread_id":77,"code":""}`, nil},
		{MsgGroupJoin, `{"code":"aZ0_-"}`, &GroupJoinRequest{"aZ0_-"}},
		{MsgGroupJoin, `{"code":"a/b"}`, nil},
		{MsgGroupJoin, `{"code":"` + strings.Repeat("a", 65) + `"}`, nil},
	} {
		t.Run(fmt.Sprint(tc.id, tc.body), func(t *testing.T) {
			got := groupBodies()[tc.id]
			err := DecodeGroup([]byte(tc.body), got)
			if tc.want == nil {
				require.Equal(t, CodeBadRequest, CodeOf(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	require.Equal(t, CodeJSON, CodeOf(DecodeGroup([]byte(`{"thread_id":"77"}`), new(GroupRequest))))
}

func TestNamesOfGroups(t *testing.T) {
	for _, name := range []string{"a", "the band", "乐队", "👨\u200d👩\u200d👧", "می\u200cخواهم", strings.Repeat("群", 64)} {
		require.True(t, ValidGroupName(name), "%q", name)
	}
	for _, name := range []string{"", " ", " a", "a ", "a\nb", "a\x00", "\u202ea", "\xff", "\ufffd", "a\u2028b", strings.Repeat("a", 65)} {
		require.False(t, ValidGroupName(name), "%q", name)
	}
}

func FuzzDecodeGroup(f *testing.F) {
	f.Add(`{"name":"the band","unique_id":"u","uids":[2,3]}`)
	f.Add(`{"thread_id":77,"after_uid":5,"limit":500}`)
	f.Add(`{"thread_id":77,"uid":2,"role":1,"until_ms":1767605472000}`)
	f.Add(`{"thread_id":77,"name":"\u2028","mute_all":null,"history_for_new":true}`)
	f.Add(`{"thread_id":77,"ttl_s":60,"uses":10000,"code":"aZ0_-"}`)
	f.Add(`{"thread_id":1e3,"uids":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		for id, r := range groupBodies() {
			err := DecodeGroup([]byte(body), r)
			if err != nil {
				require.Contains(t, []Code{CodeJSON, CodeBadRequest}, CodeOf(err), id)
				continue
			}
			// What was accepted once is accepted again as we would write it, and means the same.
			again, err := Encode(r)
			require.NoError(t, err)
			back := reflect.New(reflect.TypeOf(r).Elem()).Interface().(GroupBody)
			require.NoError(t, DecodeGroup(again, back), "%s %s", id, again)
			twice, err := Encode(back)
			require.NoError(t, err)
			require.Equal(t, string(again), string(twice), id)
		}
	})
}

func TestGroupGoldenBodies(t *testing.T) {
	on, role := false, RoleMember
	row := StoredText{
		Sender: 1009, MsgID: 5, ThreadID: 77, UniqueID: "u", Content: `{"event":"joined","by":1009}`, ChatTime: "2026-01-05 09:30:00",
		Status: StatusSent, CreatedMS: 1767605400000, Kind: KindEvent,
	}
	const rowJSON = `{"sender":1009,"msg_id":5,"thread_id":77,"unique_id":"u","msg_content":"{\"event\":\"joined\",\"by\":1009}","chat_time":"2026-01-05 09:30:00","status":2,"created_ms":1767605400000,"kind":1}`
	for _, tc := range []struct {
		v    any
		want string
	}{
		{GroupInviteReply{GroupReply{ThreadID: 77, EventID: 1}, []int32{}}, `{"error":0,"thread_id":77,"msg_id":1,"refused":[]}`},
		{GroupJoinReply{GroupReply{ThreadID: 77, EventID: 4}, "the band"}, `{"error":0,"thread_id":77,"msg_id":4,"name":"the band"}`},
		{
			GroupInfoReply{ThreadID: 77, Name: "n", Owner: 1, Members: 2, CreatedMS: 9, FirstID: 3, LastSeq: 4},
			`{"error":0,"thread_id":77,"name":"n","owner":1,"members":2,"mute_all":false,"history_for_new":false,"dissolved":false,"created_ms":9,"role":0,"muted_until_ms":0,"first_id":3,"last_seq":4,"left":0}`,
		},
		{
			GroupMembersReply{ThreadID: 77, Members: []GroupMember{{Profile: Profile{UID: 2, Name: "bob"}, Role: RoleOwner, JoinedMS: 9}}, LastUID: 2},
			`{"error":0,"thread_id":77,"members":[{"uid":2,"name":"bob","nick":"","icon":"","sex":0,"desc":"","role":2,"joined_ms":9,"muted_until_ms":0}],"last_uid":2,"load_more":false}`,
		},
		{
			GroupLinksReply{ThreadID: 77, Links: []GroupLink{{Code: "c", By: 1, CreatedMS: 2, ExpiresMS: 3, Uses: 4}}},
			`{"error":0,"thread_id":77,"links":[{"code":"c","by":1,"created_ms":2,"expires_ms":3,"uses":4}]}`,
		},
		{
			Thread{ID: 77, Type: "group", LastSeq: 3, Name: "n", Role: RoleOwner, Members: 2, FirstID: 1},
			`{"thread_id":77,"type":"group","user1_id":0,"user2_id":0,"last_seq":3,"name":"n","role":2,"members":2,"first_id":1}`,
		},
		{GroupEvent{Event: EventRole, By: 1, UIDs: []int32{2}, Role: &role}, `{"event":"role","by":1,"uids":[2],"role":0}`},
		{GroupEvent{Event: EventMuteAll, By: 1, On: &on}, `{"event":"mute_all","by":1,"on":false}`},
		{GroupPush{ThreadID: 77, MemberVer: 6, Chats: []StoredText{row}}, `{"thread_id":77,"member_ver":6,"chat_datas":[` + rowJSON + `]}`},
	} {
		got, err := Encode(tc.v)
		require.NoError(t, err)
		require.Equal(t, tc.want, string(got))
	}
	text := row
	text.Kind, text.Content, text.ChatTime, text.Status = KindText, "hi \x01", "", 0
	got := AppendGroupPush(nil, 77, 6, []StoredText{row, text})
	text.ChatTime, text.Status = row.ChatTime, row.Status
	want, err := Encode(GroupPush{ThreadID: 77, MemberVer: 6, Chats: []StoredText{row, text}})
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "appended as it is encoded")
	buf := make([]byte, 0, 4096)
	rows := []StoredText{row}
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = AppendGroupPush(buf[:0], 77, 6, rows) }))
}
