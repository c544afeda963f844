package gate

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// fuzzRoute sends bodies to one route of a live gate: every answer must be 200 with a JSON object that has an error,
// and no handler may panic.
func fuzzRoute(f *testing.F, path string, seeds ...string) {
	for _, s := range append(seeds,
		"", "{}", "null", "[]", `"`, "{", `{"email":1}`, `{"email":null}`, "{\"email\":\"\xff\"}", strings.Repeat("[", 5000),
		`{"EMAIL":"a@b.c"}`, `{"email":"a@b.c","email":"c@d.e"}`, `{"plain":true}`, `{"email":"\ud800"}`, `{"email":"\u0000"}`,
	) {
		f.Add(s)
	}
	gate := newFixture(f, func(c *Config) { c.Limits.AccountFailures, c.Hash.MemoryKiB = 1000000, 8 })
	f.Fuzz(func(t *testing.T, body string) {
		rec := httptest.NewRecorder()
		gate.api.ServeHTTP(rec, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if len(body) > maxBodyBytes {
			if rec.Code != 413 {
				t.Fatalf("%d bytes are answered %d", len(body), rec.Code)
			}
			return
		}
		var reply struct{ Error *int32 }
		if err := json.Unmarshal(rec.Body.Bytes(), &reply); err != nil || rec.Code != 200 || reply.Error == nil {
			t.Fatalf("%q is answered %d %q", body, rec.Code, rec.Body)
		}
		if *reply.Error == 2000 {
			t.Fatalf("%q made the handler panic", body)
		}
		for _, secret := range []string{"passwd", "confirm", "varifycode"} {
			if strings.Contains(rec.Body.String(), `"`+secret+`":`) {
				t.Fatalf("%q is answered with its %s", body, secret)
			}
		}
	})
}

func FuzzVarifyCode(f *testing.F) {
	fuzzRoute(f, "/get_varifycode", `{"email":"a@example.com"}`, `{"email":"a@b@c"}`)
}

func FuzzRegister(f *testing.F) {
	fuzzRoute(f, "/user_register",
		`{"user":"bob","email":"b@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"123456","icon":":/res/head_1.jpg","nick":"bob","sex":0}`,
		`{"user":"bob","email":"b@example.com","passwd":"abcdef","confirm":"abcdef","varifycode":"0a9f","plain":true}`)
}

func FuzzReset(f *testing.F) {
	fuzzRoute(f, "/reset_pwd", `{"user":"bob","email":"b@example.com","passwd":"abcdef","varifycode":"123456"}`)
}

func FuzzLogin(f *testing.F) {
	fuzzRoute(f, "/user_login", `{"email":"a@example.com","passwd":"gde745"}`, `{"email":"a@example.com","passwd":"abc123","plain":true}`)
}
