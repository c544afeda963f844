package gate

import (
	"context"
	"fmt"
	"time"

	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// VarifyServer's own codes, which /get_varifycode passes on.
const (
	codeStoreFailed wire.Code = 1 // Redis did not store the code
	codeMailRefused wire.Code = 2 // the mail was not accepted
)

type codeRequest struct {
	Email optional `json:"email"`
}

type codeReply struct {
	Error wire.Code `json:"error"`
	Email string    `json:"email"`
}

// varifyCode mails a code. It does the same whether or not the address belongs to a user.
func (s *Server) varifyCode(ctx context.Context, req *request) (any, error) {
	var in codeRequest
	if err := decode(req.body, &in, &in.Email); err != nil {
		return nil, err
	}
	if _, ok := cleanEmail(in.Email.text); !ok {
		return nil, wire.Refuse(wire.CodeBadRequest, nil)
	}
	if !s.exempt(req.addr) {
		wait, err := s.codeAddresses.take(ctx, network(req.addr).String())
		if err != nil {
			return nil, wire.Refuse(codeStoreFailed, err)
		}
		if wait > 0 {
			return nil, s.throttled("code_address", req, wait)
		}
	}
	if err := s.sendCode(ctx, in.Email.text); err != nil {
		if wire.CodeOf(err) == wire.CodeRateLimited {
			s.audit.throttled("mailbox", req.addr)
		}
		return nil, err
	}
	s.audit.event("code_sent", req.addr, 0)
	return codeReply{Email: in.Email.text}, nil
}

// sendCode mails a code to address, or has the external server mail it, within the mailbox's limit.
func (s *Server) sendCode(ctx context.Context, address string) error {
	email, ok := cleanEmail(address)
	if !ok {
		return wire.Refuse(wire.CodeBadRequest, nil)
	}
	wait, err := s.mailboxes.take(ctx, email)
	if err != nil {
		s.metrics.mails.WithLabelValues("store").Inc()
		return wire.Refuse(codeStoreFailed, err)
	}
	if wait > 0 {
		s.metrics.mails.WithLabelValues("throttled").Inc()
		s.metrics.throttled.WithLabelValues("mailbox").Inc()
		return retryLater(wire.CodeRateLimited, wait)
	}
	if s.mailSlots.Take(ctx, mailPatience) != nil {
		s.metrics.mails.WithLabelValues("busy").Inc()
		return retryLater(wire.CodeBusy, mailPatience)
	}
	defer s.mailSlots.Give()
	if s.external != nil {
		// In lower case: the other program derives its key from this, and use looks for the key in lower case.
		return s.askExternal(ctx, email)
	}
	code := newCode()
	if err := s.codes.store(ctx, email, code); err != nil {
		s.metrics.mails.WithLabelValues("store").Inc()
		return wire.Refuse(codeStoreFailed, err)
	}
	if err := s.mailer.SendCode(ctx, address, code, codeTTL); err != nil {
		s.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(codeMailRefused, safeError(err.Error())) // Mailer's errors may be logged
	}
	s.metrics.mails.WithLabelValues("sent").Inc()
	return nil
}

// mailPatience is how long a mail waits for a slot, and the retry time for a refused caller.
const mailPatience = 2 * time.Second

// askExternal has [VarifyServer] mail the code.
func (s *Server) askExternal(ctx context.Context, email string) error {
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	rsp, err := s.external.GetVarifyCode(ctx, &message.GetVarifyReq{Email: email})
	if err != nil {
		s.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(wire.CodeRPC, safeError("verification server "+s.cfg.Varify.Addr()+": "+rpc.Cause(err)))
	}
	if rsp.Error != 0 {
		s.metrics.mails.WithLabelValues("refused").Inc()
		return wire.Refuse(wire.Code(rsp.Error), safeError(fmt.Sprintf("verification server %s answered %d", s.cfg.Varify.Addr(), rsp.Error)))
	}
	s.metrics.mails.WithLabelValues("sent").Inc()
	return nil
}

// varifyService implements VarifyService for other programs.
type varifyService struct{ s *Server }

// GetVarifyCode implements message.VarifyService. It reports failures by a code and never returns an error.
func (v *varifyService) GetVarifyCode(ctx context.Context, req *message.GetVarifyReq) (*message.GetVarifyRsp, error) {
	rsp := &message.GetVarifyRsp{Email: req.GetEmail()}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := v.s.sendCode(ctx, req.GetEmail()); err != nil {
		rsp.Error = int32(wire.CodeOf(err))
		v.s.logRefusal(route{name: "GetVarifyCode"}, wire.CodeOf(err), err)
	} else {
		v.s.audit.event("code_sent", noAddr, 0)
	}
	return rsp, nil
}
