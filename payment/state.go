package payment

import "fmt"

// OperationState is where an operation stands.
type OperationState string

// The states of an operation. A sale or authorize operation is an attempt.
const (
	Created   OperationState = "created"   // Stored, not yet sent: it waits for a card or for its turn.
	Sent      OperationState = "sent"      // Stored as sent; its bytes may be on the wire.
	Waiting   OperationState = "waiting"   // The acquirer has it, and somebody must still act.
	Approved  OperationState = "approved"  // Final, unless it is undone.
	Declined  OperationState = "declined"  // Final: no money moved.
	Unknown   OperationState = "unknown"   // No answer: the money may have moved.
	Reversing OperationState = "reversing" // It must not stand; its undoing is owed.
	Reversed  OperationState = "reversed"  // Undone, and the acquirer has said so.
)

// OperationEvent is what happens to an operation.
type OperationEvent string

// The events of an operation.
const (
	Send    OperationEvent = "send"    // Its bytes are about to leave.
	Wait    OperationEvent = "wait"    // The acquirer waits for somebody.
	Approve OperationEvent = "approve" // The acquirer approved it.
	Decline OperationEvent = "decline" // The acquirer declined it, or it certainly never left.
	Lose    OperationEvent = "lose"    // No answer in time.
	Undo    OperationEvent = "undo"    // It must not stand.
	Undone  OperationEvent = "undone"  // The acquirer acknowledged the undoing.
)

// operationTransitions is the whole machine of operations: a pair that is absent is refused.
var operationTransitions = map[OperationState]map[OperationEvent]OperationState{
	Created: {Send: Sent, Wait: Waiting, Decline: Declined},
	Sent:    {Wait: Waiting, Approve: Approved, Decline: Declined, Lose: Unknown, Undo: Reversing},
	Waiting: {Send: Sent, Wait: Waiting, Approve: Approved, Decline: Declined, Lose: Unknown, Undo: Reversing},
	Unknown: {Wait: Waiting, Approve: Approved, Decline: Declined, Lose: Unknown, Undo: Reversing},
	// An approved operation may be told so again: an answer and a query can cross.
	Approved: {Approve: Approved, Undo: Reversing},
	// What the acquirer approves after it declined or closed it must not stand.
	Declined: {Decline: Declined, Undo: Reversing},
	// Whatever is heard of it now, the undoing is still owed: a late approval changes nothing.
	Reversing: {Wait: Reversing, Approve: Reversing, Decline: Reversing, Lose: Reversing, Undo: Reversing, Undone: Reversed},
	// A card refund (0200 is not idempotent) is sent again under a new STAN once its lost message is reversed. A sale never is; one that
	// is approved all the same, because its undoing overtook it, is undone again.
	Reversed: {Send: Sent, Undo: Reversing, Undone: Reversed},
}

// Next is the state after an event. It is pure; a transition that the table lacks is a *TransitionError.
func (s OperationState) Next(on OperationEvent) (OperationState, error) {
	to, ok := operationTransitions[s][on]
	if !ok {
		return s, &TransitionError{From: string(s), On: string(on)}
	}
	return to, nil
}

// State is where a payment stands.
type State string

// The states of a payment. What was refunded follows from its refunds.
const (
	Open       State = "open"       // Nothing is decided.
	Authorized State = "authorized" // Approved, not captured.
	Captured   State = "captured"   // The money is the merchant's.
	Refused    State = "declined"   // Declined, and no further attempt is allowed.
	Cancelled  State = "cancelled"  // Ended at the till's request; what moved is given back.
	Voided     State = "voided"     // Given back whole, the fee too.
	Expired    State = "expired"    // Nobody paid in time.
)

// Event is what happens to a payment.
type Event string

// The events of a payment.
const (
	Authorize Event = "authorize" // An attempt was authorised.
	Capture   Event = "capture"   // A sale was approved, or an authorisation captured.
	Refuse    Event = "refuse"    // Its last attempt was declined.
	Cancel    Event = "cancel"    // The till gave it up.
	Void      Event = "void"      // All that was left has been given back.
	Expire    Event = "expire"    // Its lifetime is over, and the acquirer agrees that nobody paid.
)

// transitions is the whole machine of payments: a pair that is absent is refused.
var transitions = map[State]map[Event]State{
	Open:       {Authorize: Authorized, Capture: Captured, Refuse: Refused, Cancel: Cancelled, Expire: Expired},
	Authorized: {Capture: Captured, Cancel: Cancelled},
	Captured:   {Cancel: Cancelled, Void: Voided},
	Refused:    {Cancel: Cancelled},
	Expired:    {Cancel: Cancelled},
	Cancelled:  {Cancel: Cancelled},
	Voided:     {},
}

// Next is the state after an event. It is pure; a transition that the table lacks is a *TransitionError.
func (s State) Next(on Event) (State, error) {
	to, ok := transitions[s][on]
	if !ok {
		return s, &TransitionError{From: string(s), On: string(on)}
	}
	return to, nil
}

// TransitionError says that a state does not know an event.
type TransitionError struct{ From, On string }

func (e *TransitionError) Error() string { return fmt.Sprintf("%s cannot %s", e.From, e.On) }

// Unwrap makes a TransitionError an ErrConflict.
func (e *TransitionError) Unwrap() error { return ErrConflict }
