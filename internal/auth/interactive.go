package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event/hook"
)

// stepOfDialogue is one line of the program, or one answer of the service (hooks.md 10).
type stepOfDialogue struct {
	Instruction   string   `json:"instruction"`
	Questions     []string `json:"questions"`
	Echos         []bool   `json:"echos"`
	CheckPassword int      `json:"check_password"` // 1 the account's password, 2 a code of the second factor
	AuthResult    int      `json:"auth_result"`    // 1 accepted, 0 go on, else refused
}

// The bounds of a dialogue.
const (
	maxSteps     = 20
	maxQuestions = 20
)

var errDialogue = errors.New("keyboard_interactive_auth_hook refuses")

// interactive has the hook hold the dialogue. It alone says who is accepted: also whether a second factor is
// asked for is its decision, as in the reference. No accepting word is a refusal.
func (a *Authenticator) interactive(ctx context.Context, u *account.User, t *Attempt, id *Identity) error {
	ask := a.askService
	if !hook.IsHTTP(a.hooks.Interactive) {
		ask = a.askProgram
	}
	if err := ask(ctx, u, t); err != nil {
		if d, ok := errors.AsType[*Denied](err); ok {
			return d
		}
		a.log.Warn("a login hook refuses or fails", "user", u.Username, "method", t.Method, "protocol", t.Protocol, "error", err)
		return deny(ReasonHook, err)
	}
	id.factor = true
	return nil
}

func (a *Authenticator) askProgram(ctx context.Context, u *account.User, t *Attempt) error {
	d, err := a.hooks.Asker.Talk(ctx, hook.Call{Hook: hook.Interactive, Target: a.hooks.Interactive, Env: []string{
		"SFTPGO_AUTHD_USERNAME=" + u.Username, "SFTPGO_AUTHD_IP=" + t.Remote.Unmap().String(), "SFTPGO_AUTHD_PASSWORD=" + u.Password}})
	if err != nil {
		return err
	}
	defer d.Close()
	for range maxSteps {
		line, err := d.Line()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("keyboard_interactive_auth_hook: the program ended without accepting: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		answers, over, err := a.dialogueStep(ctx, u, t, line)
		if over || err != nil {
			return err
		}
		for _, s := range answers {
			if err := d.Answer(s); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("keyboard_interactive_auth_hook: more than %d steps", maxSteps)
}

func (a *Authenticator) askService(ctx context.Context, u *account.User, t *Attempt) error {
	type request struct {
		RequestID string   `json:"request_id"`
		Step      int      `json:"step"`
		Username  string   `json:"username,omitempty"`
		IP        string   `json:"ip,omitempty"`
		Password  string   `json:"password,omitempty"`
		Answers   []string `json:"answers,omitempty"`
		Questions []string `json:"questions,omitempty"`
	}
	r := request{RequestID: rand.Text(), Username: u.Username, IP: t.Remote.Unmap().String(), Password: u.Password}
	for r.Step = 1; r.Step <= maxSteps; r.Step++ {
		body, err := json.Marshal(r)
		if err != nil {
			return err
		}
		data, err := a.hooks.Asker.Do(ctx, hook.Call{Hook: hook.Interactive, Target: a.hooks.Interactive, Body: body, Answer: true})
		if err != nil {
			return err
		}
		answers, over, err := a.dialogueStep(ctx, u, t, data)
		if over || err != nil {
			return err
		}
		var asked stepOfDialogue
		json.Unmarshal(data, &asked) // it was one just now
		r.IP, r.Answers, r.Questions = "", answers, asked.Questions
	}
	return fmt.Errorf("keyboard_interactive_auth_hook: more than %d steps", maxSteps)
}

// dialogueStep shows one step to the peer and gives its answers. over: the hook accepts.
func (a *Authenticator) dialogueStep(ctx context.Context, u *account.User, t *Attempt, data []byte) (answers []string, over bool, err error) {
	var s stepOfDialogue
	if json.Unmarshal(data, &s) != nil {
		return nil, false, errors.New("keyboard_interactive_auth_hook: not the JSON of a step")
	}
	switch {
	case s.AuthResult == 1:
		return nil, true, nil
	case s.AuthResult != 0:
		return nil, false, errDialogue
	case len(s.Questions) == 0 || len(s.Questions) != len(s.Echos) || len(s.Questions) > maxQuestions:
		return nil, false, fmt.Errorf("keyboard_interactive_auth_hook: %d questions with %d echos", len(s.Questions), len(s.Echos))
	case s.CheckPassword < 0 || s.CheckPassword > 2:
		return nil, false, fmt.Errorf("keyboard_interactive_auth_hook: check_password %d is not 0, 1 or 2", s.CheckPassword)
	case s.CheckPassword != 0 && (len(s.Questions) != 1 || s.Echos[0] && s.CheckPassword == 1):
		return nil, false, errors.New("keyboard_interactive_auth_hook: check_password wants one question without echo")
	}
	questions := make([]Question, len(s.Questions))
	for i, q := range s.Questions {
		questions[i] = Question{Text: q, Echo: s.Echos[i]}
	}
	if answers, err = t.Ask(ctx, s.Instruction, questions); err != nil {
		return nil, false, deny(ReasonCanceled, err)
	}
	if len(answers) != len(questions) {
		return nil, false, deny(ReasonMalformed, fmt.Errorf("%d answers to %d questions", len(answers), len(questions)))
	}
	for _, x := range answers {
		if len(x) > maxPassword {
			return nil, false, deny(ReasonTooLong, nil)
		}
	}
	switch s.CheckPassword {
	case 1:
		if err := checkPassword(answers[0]); err != nil {
			return nil, false, err
		}
		if err := a.password(ctx, u, answers[0], t); err != nil {
			return nil, false, err
		}
		answers = []string{"OK"}
	case 2:
		if !u.Filters.TOTPConfig.Enabled {
			return nil, false, deny(ReasonSecondFactor, errors.New("the second factor is not set up"))
		}
		if err := a.factors.check(ctx, u, t.Remote, answers[0], a.now()); err != nil {
			return nil, false, err
		}
		answers = []string{"OK"}
	}
	return answers, false, nil
}
