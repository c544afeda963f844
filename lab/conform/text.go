package conform

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// newUUID returns a UUID in braces, in the stock client's form.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// talk logs two friends in as stock clients that have loaded everything.
func (a *attempt) talk() (x, y *conn, thread int64) {
	ux, uy, thread := a.friends()
	x, y = a.stock(ux), a.stock(uy)
	x.load()
	y.load()
	return x, y, thread
}

var textChecks = []Check{
	{
		Name: "text-delivered", Rules: []string{"R13", "R14", "D55", "D56"},
		Doc: "1018 echoes unique_id and content and gives an id and status 2; 1019 brings the friend the same",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			for _, content := range []string{"hello", "你好 😀", "line\nbreak \"quoted\" \\ \u0001 \t", strings.Repeat("x", 1024), " "} {
				sent := x.text(y.uid, thread, content)[0]
				a.want(sent.num("message_id") > 0, "expected a message_id, got %d", sent.num("message_id"))
				equal(a, "status of 1018", 2, sent.num("status"))
				push := y.expect(1019)
				a.need("1019", push, "error:i", "fromuid:i", "touid:i", "thread_id:i", "chat_datas:a")
				equal(a, "fromuid of 1019", int64(x.uid), push.num("fromuid"))
				equal(a, "thread_id of 1019", thread, push.num("thread_id"))
				got := push.list("chat_datas")
				equal(a, "elements of 1019", 1, len(got))
				a.need("1019 chat_datas", got[0], "message_id:i", "unique_id:s", "content:s", "status:i", "chat_time:s")
				equal(a, "content of 1019", content, got[0].str("content"))
				equal(a, "status of 1019", 2, got[0].num("status"))
				equal(a, "unique_id of 1019", sent.str("unique_id"), got[0].str("unique_id"))
				equal(a, "message_id of 1019", sent.num("message_id"), got[0].num("message_id"))
				_, err := time.Parse(time.DateTime, got[0].str("chat_time"))
				a.want(err == nil, "expected chat_time as YYYY-MM-DD HH:MM:SS, got %q", got[0].str("chat_time"))
			}
		},
	},
	{
		Name: "text-across-nodes", Rules: []string{"R24", "D41", "D51", "D52", "D55", "D57"}, Doc: "1019 has the same members when the friend is at another node",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x := a.stock(ux)
			for range 12 {
				t := a.login(uy)
				if t.addr == x.addr {
					a.enter(t, nil).close()
					continue
				}
				y := a.enter(t, nil)
				y.load()
				for range 5 {
					sent := x.text(y.uid, thread, "to the other node")[0]
					push := y.until(1019)
					got := push.list("chat_datas")
					a.want(len(got) > 0, "expected texts in 1019, got none")
					last := got[len(got)-1]
					equal(a, "status of 1019", 2, last.num("status"))
					equal(a, "unique_id of 1019", sent.str("unique_id"), last.str("unique_id"))
					equal(a, "message_id of 1019", sent.num("message_id"), last.num("message_id"))
				}
				return
			}
			a.skipf("all logins were placed on one node")
		},
	},
	{
		Name: "text-several", Rules: []string{"R13"}, Doc: "one 1018 for a 1017 with several elements, in order; none is stored for an empty one, which is answered",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			got := x.text(y.uid, thread, "one", "two", "three")
			a.want(got[0].num("message_id") < got[1].num("message_id") && got[1].num("message_id") < got[2].num("message_id"),
				"expected ascending ids, got %d %d %d", got[0].num("message_id"), got[1].num("message_id"), got[2].num("message_id"))
			push := y.expect(1019).list("chat_datas")
			equal(a, "elements of 1019", 3, len(push))
			equal(a, "second element", "two", push[1].str("content"))
			equal(a, "elements of 1018 for an empty 1017", 0, len(x.text(y.uid, thread)))
			x.silent(200 * time.Millisecond)
			y.silent(0)
			next := x.text(y.uid, thread, "four")
			equal(a, "id after an empty 1017", got[2].num("message_id")+1, next[0].num("message_id"))
		},
	},
	{
		Name: "text-resent", Rules: []string{"D37"}, Doc: "the same unique_id again gets the same id, is stored once and pushed once",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			id := newUUID()
			first := x.textAs(y.uid, thread, []string{id}, "only once")[0].num("message_id")
			y.expect(1019)
			for range 3 {
				equal(a, "message_id when sent again", first, x.textAs(y.uid, thread, []string{id}, "only once")[0].num("message_id"))
			}
			y.silent(300 * time.Millisecond)
			equal(a, "texts from that id on", 1, len(x.history(thread, first-1)))
		},
	},
	{
		Name: "text-ids-of-half-characters", Rules: []string{"D37"}, Doc: "ids that differ in half a surrogate pair are two ids, or refused",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			seen := map[int64]bool{}
			for _, id := range []string{`\ud800-1`, `\ud801-1`, `\udfff-1`} {
				x.sendBody(1017, fmt.Sprintf(`{"fromuid":%d,"touid":%d,"thread_id":%d,"text_array":[{"content":"half","unique_id":"%s"}]}`, x.uid, y.uid, thread, id))
				got := x.until(1018).list("chat_datas")
				equal(a, "elements of 1018", 1, len(got))
				if n := got[0].num("message_id"); got[0].num("status") == 2 {
					a.want(!seen[n], "expected a message_id of its own for %s, got %d again", id, n)
					seen[n] = true
				}
			}
		},
	},
	{
		Name: "text-refused", Rules: []string{"D5", "D6", "D19"}, Doc: "into a thread of others, of strangers or an unknown one: 1018 with error 0 and element status 1; nothing is pushed",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			z := a.stock(a.third())
			z.load()
			for _, to := range []struct {
				uid    int32
				thread int64
			}{{y.uid, thread}, {x.uid, thread}, {x.uid, 2147483600}, {x.uid, -1}, {2147483600, 0}} {
				got := z.text(to.uid, to.thread, "not for you")[0]
				equal(a, fmt.Sprintf("status of a text to user %d in thread %d", to.uid, to.thread), 1, got.num("status"))
			}
			x.silent(300 * time.Millisecond)
			y.silent(0)
		},
	},
	{
		Name: "text-forged", Rules: []string{"D4", "D5"}, Doc: "the sender is who logged in, whatever fromuid says; a thread and a touid that do not belong together are refused",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			z := a.third()
			forged := func(to int32, content string) int64 {
				for tries := 0; ; tries++ {
					x.send(1017, fields{"fromuid": y.uid, "touid": to, "thread_id": thread, "text_array": []fields{{"content": content, "unique_id": newUUID()}}})
					reply := x.expect(1018)
					equal(a, "fromuid of 1018", int64(x.uid), reply.num("fromuid"))
					if got := reply.list("chat_datas")[0]; got.num("code") != 2003 || tries == maxTextTries {
						return got.num("status")
					}
					time.Sleep(textRetry)
				}
			}
			equal(a, "status of a text to a third in this thread", 1, forged(a.uid(z), "not to you"))
			y.silent(300 * time.Millisecond)
			equal(a, "status of a text in another's name", 2, forged(y.uid, "who am I"))
			equal(a, "fromuid of 1019", int64(x.uid), y.expect(1019).num("fromuid"))
			x.send(1025, fields{"uid": y.uid, "thread_id": 0})
			equal(a, "uid of 1026", int64(x.uid), x.expect(1026).num("uid"))
		},
	},
	{
		Name: "text-limits", Rules: []string{"D17"}, Doc: "what the client can type is accepted: 1,024 units of any kind; a text above 4,096 bytes is refused alone",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			for _, content := range []string{strings.Repeat("汉", 1024), strings.Repeat("\u0001", 1024), strings.Repeat("😀", 512), strings.Repeat("\"", 1024)} {
				equal(a, "status", 2, x.text(y.uid, thread, content)[0].num("status"))
				equal(a, "content of 1019", content, y.expect(1019).list("chat_datas")[0].str("content"))
			}
			got := x.text(y.uid, thread, "short", strings.Repeat("x", 5000), "", "short too")
			for i, want := range []int64{2, 1, 1, 2} {
				equal(a, fmt.Sprintf("status of element %d", i), want, got[i].num("status"))
			}
			equal(a, "texts pushed", 2, len(y.expect(1019).list("chat_datas")))
		},
	},
	{
		Name: "text-offline", Rules: []string{"D50", "D51"}, Doc: "a text for an offline user is in the history at the next login",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			a.stock(uy).close()
			x := a.stock(ux)
			x.load()
			content := "while you were away " + newUUID()
			x.text(a.uid(uy), thread, content)
			y := a.stock(uy)
			texts := y.history(thread, 0)
			a.want(len(texts) > 0 && texts[len(texts)-1].str("msg_content") == content, "expected the text last in the history, got %d texts without", len(texts))
		},
	},
	{
		Name: "text-storm", Rules: []string{"D53", "D59"}, Doc: "many 1017 at once get one 1018 each; in one thread those stored keep their order",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			const n = 40
			var ids []string
			for i := range n {
				ids = append(ids, newUUID())
				x.send(1017, fields{"fromuid": x.uid, "touid": y.uid, "thread_id": thread, "text_array": []fields{{"content": fmt.Sprint("storm ", i), "unique_id": ids[i]}}})
			}
			last, seen := int64(0), map[string]int{}
			for range n {
				m := x.expect(1018).list("chat_datas")[0]
				seen[m.str("unique_id")]++
				if m.num("status") == 2 {
					a.want(m.num("message_id") > last, "expected ascending ids in 1018, got %d after %d", m.num("message_id"), last)
					last = m.num("message_id")
				}
			}
			for _, id := range ids {
				equal(a, "answers to one 1017", 1, seen[id])
			}
			x.silent(200 * time.Millisecond)
		},
	},
	{
		Name: "text-first-generation", Rules: []string{"R1", "R8", "R13"}, Doc: "a client without threads sends msgid and no thread_id; its friend gets the text, and it gets text_array",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.stock(uy)
			y.load()
			x := a.stock(ux) // sends no 1025
			id := newUUID()
			x.send(1017, fields{"fromuid": x.uid, "touid": y.uid, "text_array": []fields{{"content": "from the first season", "msgid": id}}})
			reply := x.expect(1018)
			equal(a, "error of 1018", 0, reply.num("error"))
			push := y.expect(1019)
			equal(a, "thread_id of 1019", thread, push.num("thread_id"))
			equal(a, "content of 1019", "from the first season", push.list("chat_datas")[0].str("content"))
			y.text(x.uid, thread, "to the first season")
			back := x.expect(1019)
			equal(a, "fromuid of 1019", int64(y.uid), back.num("fromuid"))
			got := back.list("text_array")
			a.want(len(got) == 1, "expected one element in text_array, got %d", len(got))
			a.need("text_array", got[0], "content:s", "msgid:s")
			equal(a, "content in text_array", "to the first season", got[0].str("content"))
		},
	},
}

var historyChecks = []Check{
	{
		Name: "history-pages", Rules: []string{"R2", "R6", "D36"}, Doc: "120 texts come in ascending pages without hole or double; an empty page returns the cursor",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			before := x.history(thread, 0)
			start := int64(0)
			if len(before) > 0 {
				start = before[len(before)-1].num("msg_id")
			}
			var want []string
			for i := range 24 {
				var five []string
				for j := range 5 {
					five = append(five, fmt.Sprint("page ", i, " ", j))
				}
				x.text(y.uid, thread, five...)
				want = append(want, five...)
			}
			z := a.stock(a.grow(0))
			z.send(1025, fields{"uid": z.uid, "thread_id": 0})
			z.until(1026)
			got := z.history(thread, start)
			equal(a, "texts in the history", len(want), len(got))
			for i := range got {
				equal(a, "text in the history", want[i], got[i].str("msg_content"))
				equal(a, "status in the history", 2, got[i].num("status"))
			}
			last := got[len(got)-1].num("msg_id")
			z.send(1029, fields{"thread_id": thread, "message_id": last})
			page := z.until(1030)
			equal(a, "texts of an empty page", 0, len(page.list("chat_datas")))
			equal(a, "last_message_id of an empty page", last, page.num("last_message_id"))
			a.want(page["load_more"] == false, "expected load_more false, got %v", page["load_more"])
		},
	},
	{
		Name: "history-foreign", Rules: []string{"R6", "D5"}, Doc: "a thread of others, or an unknown one, is an empty page with the requested cursor, never an error",
		run: func(a *attempt) {
			_, _, thread := a.friends()
			z := a.stock(a.third())
			z.load()
			for _, id := range []int64{thread, 2147483600, 0, -1} {
				z.send(1029, fields{"thread_id": id, "message_id": 3})
				page := z.expect(1030)
				equal(a, "error of 1030", 0, page.num("error"))
				equal(a, "texts", 0, len(page.list("chat_datas")))
				equal(a, "last_message_id", 3, page.num("last_message_id"))
				a.want(page["load_more"] == false, "expected load_more false, got %v", page["load_more"])
			}
		},
	},
	{
		Name: "history-long-texts", Rules: []string{"D16"}, Doc: "pages of long texts stay below 32,764 bytes a frame, and lose nothing",
		run: func(a *attempt) {
			x, y, thread := a.talk()
			first := int64(0)
			for i := range 30 {
				content := strings.Repeat("汉", 1024)
				if i%3 == 0 {
					content = strings.Repeat("\u0001", 1024)
				}
				id := x.text(y.uid, thread, content)[0].num("message_id")
				if i == 0 {
					first = id
				}
			}
			z := a.stock(a.grow(0))
			n := 0
			for after := first - 1; ; {
				z.send(1029, fields{"thread_id": thread, "message_id": after})
				page := z.until(1030)
				a.want(len(z.last.body) <= 32763, "expected at most 32763 bytes, got %d", len(z.last.body))
				texts := page.list("chat_datas")
				n += len(texts)
				if page["load_more"] != true {
					break
				}
				a.want(len(texts) > 0, "expected load_more after at least one text, got an empty page")
				after = texts[len(texts)-1].num("msg_id")
			}
			equal(a, "texts in the history", 30, n)
		},
	},
}
