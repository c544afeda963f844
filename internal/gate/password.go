package gate

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Bounds on the parameters of a stored hash. A row with higher ones is refused without hashing: an attacker who can
// write one row must not be able to exhaust the gate's memory.
const (
	maxHashMemoryKiB = 128 << 10
	maxHashPasses    = 16
	maxHashLanes     = 16
	saltBytes        = 16
	keyBytes         = 32
	phcPrefix        = "$argon2id$"
)

var (
	errBadHash  = errors.New("stored password hash cannot be read")
	errHashCost = errors.New("stored password hash asks for more than is allowed")
)

// hashParams are the cost parameters of an argon2id hash.
type hashParams struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
}

// phc is a parsed argon2id hash.
type phc struct {
	hashParams
	salt, key []byte
}

// newPHC hashes passwd with a new salt and returns the PHC string.
func newPHC(p hashParams, passwd string) string {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	key := argon2.IDKey([]byte(passwd), salt, p.passes, p.memoryKiB, p.lanes, keyBytes)
	return fmt.Sprintf("%sv=%d$m=%d,t=%d,p=%d$%s$%s", phcPrefix, argon2.Version, p.memoryKiB, p.passes, p.lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// isPHC distinguishes a hash from the transformed password that llfcchat stores. A row that begins like a hash is
// never compared as text, because then the hash itself would be a valid password.
func isPHC(stored string) bool { return strings.HasPrefix(stored, phcPrefix) }

// parsePHC reads an argon2id PHC string and refuses parameters above the bounds with errHashCost.
func parsePHC(stored string) (phc, error) {
	var h phc
	rest, ok := strings.CutPrefix(stored, phcPrefix)
	if !ok || len(stored) > 255 {
		return h, errBadHash
	}
	parts := strings.Split(rest, "$")
	if len(parts) != 4 || parts[0] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errBadHash
	}
	var tail string
	n, _ := fmt.Sscanf(parts[1]+" .", "m=%d,t=%d,p=%d %s", &h.memoryKiB, &h.passes, &h.lanes, &tail)
	if n != 4 || tail != "." || h.memoryKiB < 8*uint32(h.lanes) || h.passes < 1 || h.lanes < 1 {
		return h, errBadHash
	}
	if h.memoryKiB > maxHashMemoryKiB || h.passes > maxHashPasses || h.lanes > maxHashLanes {
		return h, errHashCost
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[2]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return h, errBadHash
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[3]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return h, errBadHash
	}
	return h, nil
}

// matches hashes passwd with the parameters of h and compares in constant time.
func (h phc) matches(passwd string) bool {
	key := argon2.IDKey([]byte(passwd), h.salt, h.passes, h.memoryKiB, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// weaker reports whether h costs less than p in memory or time, so that the password should be hashed again. The
// number of lanes is not a cost.
func (h phc) weaker(p hashParams) bool {
	return h.memoryKiB < p.memoryKiB || h.passes < p.passes || len(h.salt) < saltBytes || len(h.key) < keyBytes
}

// burn takes as long as hashing with p.
func burn(p hashParams, passwd string) {
	var salt [saltBytes]byte
	_ = argon2.IDKey([]byte(passwd), salt[:], p.passes, p.memoryKiB, p.lanes, keyBytes)
}
