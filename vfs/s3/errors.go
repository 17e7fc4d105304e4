package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// answer is an error in the body of a good answer. It is a smithy.APIError.
type answer struct{ code, text string }

func (a *answer) Error() string                 { return a.code + ": " + a.text }
func (a *answer) ErrorCode() string             { return a.code }
func (a *answer) ErrorMessage() string          { return a.text }
func (a *answer) ErrorFault() smithy.ErrorFault { return smithy.FaultUnknown }

// status is the HTTP status of an error, or 0.
func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return r.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	if a, ok := errors.AsType[smithy.APIError](err); ok {
		return a.ErrorCode()
	}
	return ""
}

// exists reports that a condition "only if new" did not hold.
func exists(err error) bool {
	c := code(err)
	return c == "PreconditionFailed" || c == "ConditionalRequestConflict" || status(err) == http.StatusPreconditionFailed
}

func gone(err error) bool   { return code(err) == "NoSuchUpload" }
func isGone(err error) bool { return errors.Is(err, object.ErrGone) }

// tries counts how often a request was sent.
type tries int

// count is an option of a call.
func (t *tries) count(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("gantry.count", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			*t++
			return next.HandleFinalize(ctx, in)
		}), middleware.After) // within the retries
	})
}

// repeated reports that a request may have arrived by a try before the one that was answered.
func (t tries) repeated() bool { return t > 1 }

// kindOf is what an answer means to the tree.
func kindOf(err error) error {
	switch code(err) {
	case "NoSuchKey", "NotFound":
		return fs.ErrNotExist
	case "NoSuchUpload":
		return object.ErrGone
	case "NoSuchBucket":
		return nil
	case "AccessDenied", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "XAdminUserNotFound", "InvalidToken", "SignatureDoesNotMatch", "AccountProblem":
		return fs.ErrPermission
	case "EntityTooLarge", "KeyTooLongError", "InvalidObjectName", "XMinioInvalidObjectName":
		if code(err) == "EntityTooLarge" {
			return vfs.ErrTooLarge
		}
		return vfs.ErrInvalidPath
	case "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull":
		return vfs.ErrQuota
	case "NotImplemented", "MethodNotAllowed", "InvalidObjectState", "MissingContentLength": // the last: to a copy that it takes for an upload
		return vfs.ErrUnsupported
	}
	if exists(err) {
		return fs.ErrExist
	}
	switch status(err) {
	case http.StatusNotFound:
		return fs.ErrNotExist
	case http.StatusForbidden, http.StatusUnauthorized:
		return fs.ErrPermission
	case http.StatusInsufficientStorage:
		return vfs.ErrQuota
	}
	return nil
}

// advice names the setting to look at, "" if the answer tells none.
func advice(err error) string {
	switch code(err) {
	case "SignatureDoesNotMatch":
		return "access_secret is not the secret of access_key"
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the second: versitygw
		return "the service does not know access_key"
	case "InvalidToken":
		return "session_token does not belong to access_key"
	case "ExpiredToken", "ExpiredTokenException":
		return "session_token, or what a role was given, has ended"
	case "NoSuchBucket":
		return "there is no such bucket; look at bucket, endpoint and force_path_style"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is in another region; look at region and endpoint"
	case "RequestTimeTooSkewed":
		return "the clock of this machine is wrong"
	}
	return ""
}

// identityError: there are no credentials to ask with.
type identityError struct {
	failure string
	err     error
}

func (e *identityError) Error() string { return e.failure + ": " + short(e.err).Error() }
func (e *identityError) Unwrap() error { return e.err }

// short leaves out what the SDK says around the reason why no answer came.
func short(err error) error {
	if i, ok := errors.AsType[*identityError](err); ok {
		return i
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// failed names what was tried. What the SDK says holds no secret: the credentials are in headers.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	if a := advice(err); a != "" {
		err = fmt.Errorf("%s: %w", a, short(err))
	} else {
		err = short(err)
	}
	if kind != nil {
		return fmt.Errorf("s3: %s %q: %w: %w", op, key, kind, err)
	}
	return fmt.Errorf("s3: %s %q: %w", op, key, err)
}

// failedGet is failed for a read, whose condition is the version.
func failedGet(key string, err error) error {
	if exists(err) {
		return fmt.Errorf("s3: get %q: %w", key, object.ErrChanged)
	}
	return failed("get", key, err)
}

// refusesChecksums reports whether the service may have refused a request because of its checksum.
func refusesChecksums(err error) bool {
	switch code(err) {
	case "NotImplemented", "XNotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedArgument":
		return true
	}
	return err != nil && status(err) == http.StatusNotImplemented
}

// swapUnsigned sends the content unsigned.
func swapUnsigned(stack *middleware.Stack) error {
	return v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware(stack)
}
