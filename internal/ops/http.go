package ops

import (
	"errors"
	"net/http"

	"parley/internal/obs"
	"parley/internal/wire"
)

// WriteResult answers a request with v, or with the reason of err.
func WriteResult(w http.ResponseWriter, v any, err error) {
	if err == nil {
		obs.WriteJSON(w, http.StatusOK, v)
		return
	}
	refusal := &Error{Code: wire.CodeInternal, Reason: "not done, see the log of the node that was asked: " + obs.ErrorClass(err)}
	status := http.StatusBadGateway
	if errors.As(err, &refusal) {
		switch refusal.Code {
		case wire.CodeBadRequest:
			status = http.StatusBadRequest
		case wire.CodeUIDInvalid:
			status = http.StatusNotFound
		case wire.CodeUnavailable:
			status = http.StatusConflict
		}
	}
	obs.WriteError(w, status, refusal.Reason)
}
