package presence

import (
	"strconv"
	"strings"
)

// keys builds all key names. On a cluster the uid is a hash tag, so that all keys of a user share a slot and can be
// used in one script or MGET. Placement keys have the tag {logincount}, which hashes like the plain key "logincount"
// that other programs read.
type keys struct {
	cluster bool
}

const (
	keyLoginCount = "logincount"            // hash: node name -> logged-in sessions
	keyLastPick   = "lastpick_{logincount}" // hash: node name -> number of its latest placement; "#" -> placements so far
	keyGeneration = "parley_gen"            // string: "<random id> <ms of creation>"
)

func (k keys) uid(uid int32) string {
	s := strconv.FormatInt(int64(uid), 10)
	if k.cluster {
		return "{" + s + "}"
	}
	return s
}

// token is the key of a login token: "<issued ms>", or for a short time after use "<issued ms> <location>
// <displaced>".
func (k keys) token(uid int32, digest string) string { return "utoken_" + k.uid(uid) + ":" + digest }

// tokenMin holds the time of the last revocation; tokens and tickets issued at or before it are refused.
func (k keys) tokenMin(uid int32) string { return "utokmin_" + k.uid(uid) }

// resume holds the tickets of one device: "<issued ms> <location> <displaced> <current> <previous>", "-" for none.
func (k keys) resume(uid int32, device string) string { return "uresume_" + k.uid(uid) + ":" + device }

// session is a hash from device to "sid|node|boot".
func (k keys) session(uid int32) string { return "usession_" + k.uid(uid) }

// seen is the time when the user's last session ended, in minutes since 1970.
func (k keys) seen(uid int32) string { return "useen_" + k.uid(uid) }

// nodeOf is the node of the latest login. Parley does not use it; operators and llfcchat's tools do.
func (k keys) nodeOf(uid int32) string { return "uip_" + k.uid(uid) }

func (k keys) profile(uid int32) string      { return "ubaseinfo_" + k.uid(uid) }
func (k keys) lists(uid int32) string        { return "ulists_" + k.uid(uid) }
func (k keys) listsVersion(uid int32) string { return "ulistsver_" + k.uid(uid) }

// name ignores case, because names are unique without regard to case.
func (k keys) name(name string) string { return "nameinfo_" + strings.ToLower(name) }

// group is a hash from "node|boot" to number, with an entry for each boot id of a node that holds sessions of the
// group's members.
func (k keys) group(thread int64) string { return "group_" + strconv.FormatInt(thread, 10) }

func (k keys) lease(node string) string { return "node_" + node }

// reserve is a sorted set of token digests by the time, in ms, at which the reservation expires.
func (k keys) reserve(node string) string { return "reserve_{logincount}_" + node }

// kicks is a node's mailbox: a list of "<uid>|<sid>", the sessions it is to end. The script that reports the node's
// load reads it, so it shares that script's slot.
func (k keys) kicks(node string) string { return "kicks_{logincount}_" + node }
