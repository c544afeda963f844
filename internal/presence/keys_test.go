package presence

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// slot is CRC16 (XMODEM) of the hash tag, or of the whole key without one, modulo 16384, as Redis Cluster specifies.
func slot(key string) int {
	if from := strings.IndexByte(key, '{'); from >= 0 {
		if n := strings.IndexByte(key[from+1:], '}'); n > 0 {
			key = key[from+1 : from+1+n]
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % 16384
}

func TestSlot(t *testing.T) {
	require.Equal(t, 0x31c3, slot("123456789"), "the check value of the specification")
	require.Equal(t, slot("user1000"), slot("{user1000}.following"))
	require.NotEqual(t, slot("a"), slot("b"))
}

func TestKeysOfAScriptShareASlot(t *testing.T) {
	k := keys{cluster: true}
	nodes := []Node{{Lease: Lease{Name: "n1"}}, {Lease: Lease{Name: "n2"}}}
	const uid = 1001
	for name, group := range map[string][]string{
		"claim":           claimKeys(k, &Claim{UID: uid, Device: "phone"}, digest("t")),
		"claim by ticket": claimKeys(k, &Claim{UID: uid, Device: "phone", Resume: true}, digest("t")),
		"release":         releaseKeys(k, uid),
		"prelogin":        {k.token(uid, "d"), k.tokenMin(uid), k.profile(uid), k.listsVersion(uid), k.lists(uid), k.resume(uid, "phone")},
		"place":           placeKeys(k, nodes),
		"load":            loadKeys(k, "n1"),
	} {
		require.Greater(t, len(group), 1)
		for _, key := range group {
			require.Equal(t, slot(group[0]), slot(key), "%s: %v", name, group)
		}
	}
	require.Equal(t, slot("logincount"), slot(keyLastPick))
	require.NotEqual(t, slot(k.session(1)), slot(k.session(2)), "users are spread")
	require.NotEqual(t, slot(k.lease("n1")), slot(k.lease("n2")))
}

func TestKeyNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{keys{}.token(7, "d"), "utoken_7:d"},
		{keys{}.session(7), "usession_7"},
		{keys{}.nodeOf(7), "uip_7"},
		{keys{}.profile(7), "ubaseinfo_7"},
		{keys{}.name("Ada"), "nameinfo_ada"},
		{keys{}.lease("chat1"), "node_chat1"},
		{keys{}.reserve("chat1"), "reserve_{logincount}_chat1"},
		{keys{}.kicks("chat1"), "kicks_{logincount}_chat1"},
		{keys{cluster: true}.token(7, "d"), "utoken_{7}:d"},
		{keys{cluster: true}.resume(7, "phone"), "uresume_{7}:phone"},
		{keys{cluster: true}.tokenMin(7), "utokmin_{7}"},
		{keys{cluster: true}.lists(7), "ulists_{7}"},
		{keys{cluster: true}.listsVersion(7), "ulistsver_{7}"},
	} {
		require.Equal(t, tt.want, tt.got)
	}
}
