package wire

import (
	"strings"
	"unicode/utf8"
)

const (
	// MaxText bounds one text, in bytes of UTF-8. The stock client stops at 1,024 UTF-16 units, at most 3,072 bytes.
	MaxText = 4096
	// MaxTexts bounds the elements of one 1017. The stock client sends several only around inline pictures.
	MaxTexts = 64
	// MaxUniqueID bounds a text's unique_id, in bytes. The stock client sends 38: a UUID in braces.
	MaxUniqueID = 64
)

// Text is one element of a 1017. MsgID is the first generation's name for UniqueID.
type Text struct {
	Content  string `json:"content"`
	UniqueID string `json:"unique_id"`
	MsgID    string `json:"msgid,omitempty"`
	// Type is the content's, 1 to 32 of [a-z0-9./+-]. DecodeText makes TypeText "".
	Type string `json:"type,omitempty"`
}

// TextRequest is 1017. ThreadID is 0 from a first-generation client, which names only the recipient. The sender is the
// session's user whatever fromuid says, so it is not even read.
type TextRequest struct {
	ToUID    int32  `json:"touid"`
	ThreadID int64  `json:"thread_id"`
	Texts    []Text `json:"text_array"`
}

// maxTextBody leaves room in the 1018, which repeats the texts and adds at most 160 bytes to each of MaxTexts.
const maxTextBody = 48 << 10

// DecodeText reads a 1017. Faults of single elements are not errors here: Text.Fault tells them, and the element is
// refused alone.
func DecodeText(body []byte) (*TextRequest, error) {
	r := decodePlainText(body)
	if r == nil {
		r = new(TextRequest)
		if err := Decode(body, r); err != nil {
			return nil, err
		}
	}
	if len(body) > maxTextBody {
		return nil, Refuse(CodeBadRequest, errTextBody)
	}
	if len(r.Texts) > MaxTexts {
		return nil, Refuse(CodeBadRequest, errManyTexts)
	}
	for i := range r.Texts {
		t := &r.Texts[i]
		if t.UniqueID == "" {
			t.UniqueID = t.MsgID
		}
		if t.Type == TypeText {
			t.Type = ""
		}
	}
	return r, nil
}

// Fault returns CodeOK for a text that may be stored, else CodeBadRequest: the id is missing, longer than MaxUniqueID or
// not Unicode, or the content is empty, longer than MaxText, not UTF-8 or holds a NUL, or the type is none.
//
// U+FFFD in an id stands for something that is not Unicode, such as an escaped half of a surrogate pair. Different ids
// would become the same one, and the second text would be taken for the first one sent again.
func (t *Text) Fault() Code {
	if t.UniqueID == "" || len(t.UniqueID) > MaxUniqueID || !validContent(t.Content) ||
		!utf8.ValidString(t.UniqueID) || strings.Contains(t.UniqueID, "\ufffd") || t.Type != "" && !ValidType(t.Type) {
		return CodeBadRequest
	}
	return CodeOK
}

// validContent reports whether a text may have a content.
func validContent(s string) bool {
	return s != "" && len(s) <= MaxText && strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}
