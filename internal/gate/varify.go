package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"parley/internal/config"
	"parley/internal/rpc"
	"parley/internal/slots"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/varifyservice"
)

// VarifyServer's own codes, which /get_varifycode passes on.
const (
	codeStoreFailed wire.Code = 1 // Redis did not store the code
	codeMailRefused wire.Code = 2 // the mail was not accepted
)

// varify mails verification codes, or has an external server mail them, and tells whether a code is right.
type varify struct {
	*shared
	codes     *codes
	addresses *hourly // requests of each network
	mailboxes *hourly // mails to each address
	mailer    Mailer
	mailSlots *slots.Slots         // mails being sent
	external  varifyservice.Client // nil: this gate mails the codes
}

func newVarify(c *shared, d Deps, cl *clients) (v *varify, err error) {
	cfg := &c.cfg
	secret := []byte(cfg.Cluster.Secret)
	perHour := func(name string, limit int) *hourly {
		return &hourly{rdb: d.Redis, timeout: cfg.Redis.Timeout, secret: secret, name: name, limit: limit, now: time.Now}
	}
	v = &varify{
		shared:    c,
		codes:     &codes{rdb: d.Redis, timeout: cfg.Redis.Timeout, secret: secret, cluster: cfg.Redis.Cluster, plain: cfg.external()},
		addresses: perHour("codeaddr", cfg.Limits.CodesPerAddress),
		mailboxes: perHour("codemail", cfg.Limits.CodesPerMailbox),
		mailer:    d.Mail,
		mailSlots: slots.New(max(1, cfg.Mail.Parallel), 8*max(1, cfg.Mail.Parallel)),
	}
	switch {
	case cfg.external():
		if v.external, err = cl.dialVarify(cfg.Varify.Addr()); err != nil {
			return nil, err
		}
	case v.mailer == nil:
		if v.mailer, err = NewMailer(cfg.Mail, os.Stdout); err != nil {
			return nil, config.Invalid(err)
		}
	}
	return v, nil
}

type codeRequest struct {
	Email optional `json:"email"`
}

type codeReply struct {
	Error wire.Code `json:"error"`
	Email string    `json:"email"`
}

// mailCode mails a code. It does the same whether or not the address belongs to a user.
func (v *varify) mailCode(ctx context.Context, req *request) (any, error) {
	var in codeRequest
	if err := decode(req.body, &in, &in.Email); err != nil {
		return nil, err
	}
	if _, ok := cleanEmail(in.Email.text); !ok {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	if !v.exempt(req.addr) {
		wait, err := v.addresses.take(ctx, network(req.addr).String())
		if err != nil {
			return nil, wire.Refuse(codeStoreFailed, err)
		}
		if wait > 0 {
			return nil, v.throttled("code_address", req, wait)
		}
	}
	if err := v.sendCode(ctx, in.Email.text); err != nil {
		if wire.CodeOf(err) == wire.CodeRateLimited {
			v.audit.throttled("mailbox", req.addr)
		}
		return nil, err
	}
	v.audit.event("code_sent", req.addr, 0)
	return codeReply{Email: in.Email.text}, nil
}

// sendCode mails a code to address, or has the external server mail it, within the mailbox's limit.
func (v *varify) sendCode(ctx context.Context, address string) error {
	email, ok := cleanEmail(address)
	if !ok {
		return wire.Refuse(wire.CodeBadRequest, nil)
	}
	wait, err := v.mailboxes.take(ctx, email)
	if err != nil {
		v.metrics.mails.WithLabelValues("store").Inc()
		return wire.Refuse(codeStoreFailed, err)
	}
	if wait > 0 {
		v.metrics.mails.WithLabelValues("throttled").Inc()
		v.metrics.throttled.WithLabelValues("mailbox").Inc()
		return retryLater(wire.CodeRateLimited, wait)
	}
	if v.mailSlots.Take(ctx, mailPatience) != nil {
		v.metrics.mails.WithLabelValues("busy").Inc()
		return retryLater(wire.CodeBusy, mailPatience)
	}
	defer v.mailSlots.Give()
	if v.external != nil {
		// In lower case: the other program derives its key from this, and use looks for the key in lower case.
		return v.askExternal(ctx, email)
	}
	code := newCode()
	if err := v.codes.store(ctx, email, code); err != nil {
		v.metrics.mails.WithLabelValues("store").Inc()
		return wire.Refuse(codeStoreFailed, err)
	}
	if err := v.mailer.SendCode(ctx, address, code, codeTTL); err != nil {
		v.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(codeMailRefused, safeError(err.Error())) // Mailer's errors may be logged
	}
	v.metrics.mails.WithLabelValues("sent").Inc()
	return nil
}

// mailPatience is how long a mail waits for a slot, and the retry time for a refused caller.
const mailPatience = 2 * time.Second

// askExternal has [VarifyServer] mail the code.
func (v *varify) askExternal(ctx context.Context, email string) error {
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	rsp, err := v.external.GetVarifyCode(ctx, &message.GetVarifyReq{Email: email})
	if err != nil {
		v.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(wire.CodeRPC, safeError("verification server "+v.cfg.Varify.Addr()+": "+rpc.Cause(err)))
	}
	if rsp.Error != 0 {
		v.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(wire.Code(rsp.Error), safeError(fmt.Sprintf("verification server %s answered %d", v.cfg.Varify.Addr(), rsp.Error)))
	}
	v.metrics.mails.WithLabelValues("sent").Inc()
	return nil
}

// takeCode uses up the code that was mailed to email, which is in lower case.
func (v *varify) takeCode(ctx context.Context, req *request, email, code string) (taken, error) {
	t, err := v.codes.use(ctx, email, code)
	switch {
	case errors.Is(err, errNoCode):
		return t, wire.Refuse(wire.CodeVarifyExpired, nil)
	case errors.Is(err, errWrongCode):
		return t, wire.Refuse(wire.CodeVarify, nil)
	case err != nil:
		return t, wire.Refuse(wire.CodeUnavailable, err)
	}
	v.audit.event("code_used", req.addr, 0)
	return t, nil
}

// putCodeBack restores a code whose request failed. A failure here costs the user a new code.
func (v *varify) putCodeBack(ctx context.Context, t taken, refund bool) {
	if err := v.codes.putBack(ctx, t, refund); err != nil && v.noise.Allow() {
		v.log.Warn("verification code not restored; the user must request another", "err", err)
	}
}

// varifyService implements VarifyService for other programs.
type varifyService struct{ varify *varify }

// GetVarifyCode implements message.VarifyService. It reports failures by a code and never returns an error.
func (v *varifyService) GetVarifyCode(ctx context.Context, req *message.GetVarifyReq) (*message.GetVarifyRsp, error) {
	rsp := &message.GetVarifyRsp{Email: req.GetEmail()}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := v.varify.sendCode(ctx, req.GetEmail()); err != nil {
		rsp.Error = int32(wire.CodeOf(err))
		v.varify.logRefusal("GetVarifyCode", wire.CodeOf(err), err)
	} else {
		v.varify.audit.event("code_sent", noAddr, 0)
	}
	return rsp, nil
}
