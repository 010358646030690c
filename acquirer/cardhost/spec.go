package cardhost

// lastDE is the last data element of a message with two bitmaps.
const lastDE = 128

// Data elements that code names.
const (
	dePAN            = 2
	deProcessing     = 3
	deAmount         = 4
	deSent           = 7 // Transmission date and time, UTC.
	deSTAN           = 11
	deLocalTime      = 12
	deLocalDate      = 13
	deExpiry         = 14
	deSettlement     = 15
	deEntryMode      = 22
	deSequence       = 23
	deCondition      = 25
	deMember         = 32
	deTrack2         = 35
	deRRN            = 37
	deAuthCode       = 38
	deCode           = 39
	deTID            = 41
	deMerchant       = 42
	deName           = 43
	deTrack1         = 45
	deAdditional     = 48
	deCurrency       = 49
	dePIN            = 52
	dePINFormat      = 53
	deChip           = 55
	deBatch          = 60
	deMAC            = 64
	deBalance        = 66
	deNetwork        = 70
	deCredits        = 74
	deCreditsBack    = 75
	deDebits         = 76
	deDebitsBack     = 77
	deCreditSum      = 86
	deCreditSumBack  = 87
	deDebitSum       = 88
	deDebitSumBack   = 89
	deOriginal       = 90
	deMAC2           = 128 // Takes the place of 64 when there is a second bitmap.
	macSize          = 8
	memberInOriginal = 11 // Digits of DE 32 in DE 90.
)

// format is what a data element is made of.
type format uint8

const (
	formatN    format = iota + 1 // Digits, zeros in front.
	formatZ                      // Digits and the separator of track 2.
	formatANS                    // Printable ASCII, blanks behind.
	formatText                   // As formatANS, and UTF-8.
	formatB                      // Bytes.
)

// show is how much of a data element people may see. The zero one is the strictest.
type show uint8

const (
	showNothing show = iota
	showMasked       // A card number, as first six and last four.
	showTLV          // Chip data, as package emv describes it.
	showItems        // DE 48: the names of its items.
	showAll
)

// element says how one data element is packed. A prefix of 0 is a fixed length.
type element struct {
	name   string
	format format
	size   int // Bytes; at most so many when there is a prefix.
	prefix int // Digits of length in front.
	show   show
}

// specification is the host's table of data elements. What is not in it is not understood.
var specification = [lastDE + 1]element{
	dePAN:           {"PAN", formatN, 19, 2, showMasked},
	deProcessing:    {"processing code", formatN, 6, 0, showAll},
	deAmount:        {"amount", formatN, 12, 0, showAll},
	deSent:          {"sent, UTC", formatN, 10, 0, showAll},
	deSTAN:          {"STAN", formatN, 6, 0, showAll},
	deLocalTime:     {"local time", formatN, 6, 0, showAll},
	deLocalDate:     {"local date", formatN, 4, 0, showAll},
	deExpiry:        {"expiry", formatN, 4, 0, showNothing},
	deSettlement:    {"settlement date", formatN, 4, 0, showAll},
	deEntryMode:     {"entry mode", formatN, 3, 0, showAll},
	deSequence:      {"PAN sequence number", formatN, 3, 0, showAll},
	deCondition:     {"condition", formatN, 2, 0, showAll},
	deMember:        {"member", formatN, 11, 2, showAll},
	deTrack2:        {"track 2", formatZ, 37, 2, showNothing},
	deRRN:           {"RRN", formatANS, 12, 0, showAll},
	deAuthCode:      {"authorization code", formatANS, 6, 0, showAll},
	deCode:          {"response code", formatANS, 2, 0, showAll},
	deTID:           {"TID", formatANS, 8, 0, showAll},
	deMerchant:      {"merchant", formatANS, 15, 0, showAll},
	deName:          {"merchant's name", formatText, 40, 0, showAll},
	deTrack1:        {"track 1", formatANS, 76, 2, showNothing},
	deAdditional:    {"additional data", formatText, 999, 3, showItems},
	deCurrency:      {"currency", formatN, 3, 0, showAll},
	dePIN:           {"PIN block", formatB, 8, 0, showNothing},
	dePINFormat:     {"PIN block format", formatN, 16, 0, showAll},
	deChip:          {"chip data", formatB, 255, 3, showTLV},
	deBatch:         {"batch", formatANS, 20, 3, showAll},
	deMAC:           {"MAC", formatB, macSize, 0, showNothing},
	deBalance:       {"balance", formatN, 1, 0, showAll},
	deNetwork:       {"network management", formatN, 3, 0, showAll},
	deCredits:       {"credits", formatN, 10, 0, showAll},
	deCreditsBack:   {"credits reversed", formatN, 10, 0, showAll},
	deDebits:        {"debits", formatN, 10, 0, showAll},
	deDebitsBack:    {"debits reversed", formatN, 10, 0, showAll},
	deCreditSum:     {"amount of credits", formatN, 16, 0, showAll},
	deCreditSumBack: {"amount of credits reversed", formatN, 16, 0, showAll},
	deDebitSum:      {"amount of debits", formatN, 16, 0, showAll},
	deDebitSumBack:  {"amount of debits reversed", formatN, 16, 0, showAll},
	deOriginal:      {"original", formatN, 42, 0, showAll},
	deMAC2:          {"MAC", formatB, macSize, 0, showNothing},
}

// Message types. A request's answer is its type and ten, of a repeat too.
const (
	mtiAuthorization    = "0100"
	mtiSale             = "0200" // Refunds and voids too: DE 3 tells.
	mtiCompletion       = "0220"
	mtiCompletionRepeat = "0221"
	mtiUpload           = "0320"
	mtiReversal         = "0400" // Of what was approved.
	mtiReversalAdvice   = "0420" // Of what was not answered.
	mtiReversalRepeat   = "0421" // Of both.
	mtiClose            = "0500"
	mtiNetwork          = "0800"
	mtiNetworkAnswer    = "0810"
)

// types says which messages there are, which data elements they must have besides DE 2 or DE 48, and whether they end with a MAC.
var types = map[string]struct {
	name string
	must []int
	mac  bool
}{
	mtiAuthorization:    {"authorization", mustSale, true},
	mtiSale:             {"sale, refund or void", mustSale, true},
	mtiCompletion:       {"completion", append([]int{deAuthCode, deOriginal}, mustSale...), true},
	mtiCompletionRepeat: {"completion, repeated", append([]int{deAuthCode, deOriginal}, mustSale...), true},
	mtiUpload:           {"batch upload", append([]int{deBatch, deOriginal}, mustMoney...), true},
	mtiReversal:         {"reversal of an approval", append([]int{deOriginal}, mustMoney...), true},
	mtiReversalAdvice:   {"reversal after silence", append([]int{deOriginal}, mustMoney...), true},
	mtiReversalRepeat:   {"reversal, repeated", append([]int{deOriginal}, mustMoney...), true},
	mtiClose: {"close of a batch", []int{deProcessing, deSent, deSTAN, deLocalTime, deLocalDate, deMember, deRRN, deTID, deMerchant, deCurrency, deBatch,
		deCredits, deCreditsBack, deDebits, deDebitsBack, deCreditSum, deCreditSumBack, deDebitSum, deDebitSumBack}, true},
	mtiNetwork: {"network management", []int{deSent, deSTAN, deMember, deNetwork}, false},

	"0110":           {"answer to an authorization", mustAnswer, true},
	"0210":           {"answer to a sale, refund or void", mustAnswer, true},
	"0230":           {"answer to a completion", mustAnswer, true},
	"0330":           {"answer to a batch upload", mustAnswer, true},
	"0410":           {"answer to a reversal of an approval", mustAnswer, true},
	"0430":           {"answer to a reversal after silence", mustAnswer, true},
	"0510":           {"answer to a close of a batch", mustAnswer, true},
	mtiNetworkAnswer: {"answer to network management", []int{deSTAN, deCode}, false},
}

var (
	mustMoney = []int{deProcessing, deAmount, deSent, deSTAN, deLocalTime, deLocalDate, deMember, deRRN, deTID, deMerchant, deCurrency}
	mustSale  = append([]int{deEntryMode, deCondition}, mustMoney...)
	// mustAnswer is what pairs an answer with its request; what else it repeats is compared where it is judged.
	mustAnswer = []int{deSTAN, deRRN, deCode, deTID}
)

// Processing codes, DE 3.
const (
	processPurchase   = "000000"
	processVoid       = "020000"
	processRefund     = "200000"
	processAfterBatch = "920000" // A close after its batch was uploaded.
)

// Network management codes, DE 70.
const (
	networkSignOn  = "001"
	networkSignOff = "002"
	networkKeys    = "101"
	networkCutOver = "201"
	networkEcho    = "301"
)

// Items of DE 48.
const (
	itemToken  = "TK"
	itemPINKey = "ZP"
	itemMACKey = "MK"
)

// answerType is the type of the answer to a request.
func answerType(mti string) string { return mti[:2] + string(mti[2]+1) + "0" }
