// Package gate is the HTTP front of a cluster: it registers users, mails verification codes, resets passwords, and
// turns an e-mail address and a password into the address of a chat node and a token to log in there. It also serves
// VarifyService, which mails the codes, to other programs.
//
// It does not speak the chat protocol and keeps no state that other gates need. Any number of gates may use the same SQL
// database and Redis.
//
// A request comes in by api, which calls the handler of its route: varify mails verification codes, logins proves a
// password and places the user, accounts does what changes an account, and sessions ends what the old password opened.
//
// # HTTP API
//
// Every route takes POST with a JSON object of at most 16 KiB and always answers status 200 with a JSON
// object: the stock client takes any other status for a dead network. "error" is 0 on success; a failed reply carries
// nothing else, except "retry_ms" (and the header Retry-After, in seconds) with 2001 and 2003. A path that is not listed
// is 404, a body that is too large 413, a header that is too large 431. A request has ten seconds to arrive, counted
// from the accept, with the handshake of TLS. Connections are closed after one reply, except that a browser may load several files of
// the chat page by one connection.
//
//	POST /get_varifycode  {"email"}
//	  {"error":0,"email"}; 1001 bad JSON, 1002 verification server unreachable, 1 code store failed, 2 mail refused,
//	  2001 busy, 2003 too many requests, 2005 not an address
//	POST /user_register   {"user","email","passwd","confirm","varifycode","icon"?,"nick"?,"sex"?}
//	  {"error":0,"uid","email","user"}; 1001, 1006 passwd and confirm differ, 1003 no code stored (never asked, used,
//	  too old, or five wrong tries), 1004 wrong code, 1005 name or address taken, 2001, 2002, 2005 unusable name,
//	  address, icon or password length
//	POST /reset_pwd       {"user","email","passwd","varifycode"}
//	  {"error":0,"email","user"}; 1001, 1003, 1004, 1007 no such user or not that user's address, 1008 could not be
//	  stored, 2001, 2002, 2005. Ends all sessions and tokens of the user.
//	POST /change_password {"email","passwd","newpasswd"}
//	  {"error":0,"email"}; 1001, 1009 wrong address or password, 1008 could not be stored, 2001, 2002, 2003, 2005. Limited
//	  like a login; ends sessions and tokens as /reset_pwd does.
//	POST /user_login      {"email","passwd"}
//	  {"error":0,"email","uid","token","host","port"}; 1001, 1009 wrong address or password, 1002 no chat node
//	  available, 2001, 2002 SQL unreachable, 2003 too many failures. port is a decimal string. The token is valid for one
//	  login within ten minutes.
//
// passwd and confirm travel as the stock client sends them, see [Transform]. A request with "plain":true carries them
// as typed and the gate transforms them first. A password has 6 to 128 characters. Codes have six digits and are valid for
// ten minutes, five tries and one use.
package gate
