package receipt

// Language is the language of a receipt.
type Language int

// The languages.
const (
	English Language = iota
	French
	Chinese // Traditional.
	languages
)

// LanguageOf is the language of a two-letter code, English for those that receipts do not speak.
func LanguageOf(code string) Language {
	switch code {
	case "fr":
		return French
	case "zh":
		return Chinese
	}
	return English
}

// word is a row of the table of words.
type word int

const (
	title word = iota
	terminalID
	invoice
	sequence
	order
	ours
	original
	purchase
	refund
	void
	entryMethod
	account
	amount
	tip
	totals
	authorization
	batchNumber
	response
	approvedText
	declinedText
	notCompletedText
	unknownText
	askUs
	byPIN
	noSignature
	signHere
	agree
	merchantCopy
	customerCopy
	reprint
	wordCount
)

// texts has every word in every language. French ones without accents stand so in the reference (IOT Pay, section 9.2).
var texts = [wordCount][languages]string{
	title:            {"TRANSACTION RECORD", "RELEVE DE TRANSACTION", "交易紀錄"},
	terminalID:       {"Term ID", "No term", "終端機"},
	invoice:          {"Invoice", "Facture", "單據"},
	sequence:         {"Seq", "Seq", "序號"},
	order:            {"Order", "Commande", "訂單"},
	ours:             {"No.", "No", "編號"},
	original:         {"Original", "Original", "原交易"},
	purchase:         {"PURCHASE", "ACHAT", "消費"},
	refund:           {"REFUND", "REMISE", "退款"},
	void:             {"VOID", "ANNULATION", "取消交易"},
	entryMethod:      {"Entry", "Entrée", "輸入"},
	account:          {"Account", "Compte", "帳戶"},
	amount:           {"Amount", "Montant", "金額"},
	tip:              {"Tip", "Pourboire", "小費"},
	totals:           {"TOTAL", "TOTAL", "總額"},
	authorization:    {"Auth #", "Autor. #", "授權碼"},
	batchNumber:      {"Batch", "Lot", "批次"},
	response:         {"Resp", "Rép", "回應"},
	approvedText:     {"APPROVED - THANK YOU", "APPROUVEE - MERCI", "已批准 - 多謝"},
	declinedText:     {"DECLINED", "REFUSEE", "交易被拒"},
	notCompletedText: {"NOT COMPLETED", "NON COMPLETEE", "交易未完成"},
	unknownText:      {"RESULT NOT KNOWN", "RESULTAT INCONNU", "結果未明"},
	askUs:            {"Ask for the result before paying again.", "Vérifiez le résultat avant de payer encore.", "再次付款前請先查詢結果"},
	byPIN:            {"VERIFIED BY PIN", "VERIFIE PAR NIP", "已核對密碼"},
	noSignature:      {"NO SIGNATURE REQUIRED", "SIGNATURE NON REQUISE", "無需簽名"},
	signHere:         {"Signature", "Signature", "簽名"},
	agree:            {"I agree to pay the total above.", "Je consens à payer le total ci-dessus.", "本人同意支付以上總額"},
	merchantCopy:     {"MERCHANT COPY", "COPIE COMMERCANT", "商戶存根"},
	customerCopy:     {"CUSTOMER COPY", "COPIE CLIENT", "顧客存根"},
	reprint:          {"REPRINT", "REIMPRESSION", "重印"},
}

var (
	kinds   = map[Kind]word{Purchase: purchase, Refund: refund, Void: void}
	copies  = map[Copy]word{MerchantCopy: merchantCopy, CustomerCopy: customerCopy}
	results = map[Result]word{Unknown: unknownText, Approved: approvedText, Declined: declinedText, NotCompleted: notCompletedText}
)

// words is the table in one language.
type words struct{ language Language }

func (w words) of(id word) string { return texts[id][w.language] }
