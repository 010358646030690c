// The card fields of a shop's page. The page calls uppInitialise(publicToken) once and then questPaymentWidget("#selector").focus().
// When the form around the fields is submitted, the card goes to the token service, and only its token goes to the shop: in a hidden
// field named card-token. The fields themselves have no names, so that no form ever sends them.
(() => {
	"use strict";
	const cardTokens = "$CARD_TOKENS"; // Filled in by the server.
	const patience = 30000; // Milliseconds for the token service.
	const drawn = new WeakMap(); // Element to its widget: drawing twice changes nothing.
	let initialised = false;

	function uppInitialise(publicToken) {
		if (typeof publicToken !== "string" || publicToken === "") {
			throw new TypeError("uppInitialise: give it the public token.");
		}
		initialised = true;
	}

	function questPaymentWidget(selector) {
		if (!initialised) {
			throw new Error("questPaymentWidget: call uppInitialise first.");
		}
		const element = typeof selector === "string" ? document.querySelector(selector) : selector;
		const form = element && element.closest("form");
		if (!form) {
			throw new Error("questPaymentWidget: there is no such element inside a form: " + selector);
		}
		if (!drawn.has(element)) {
			drawn.set(element, draw(element, form));
		}
		return drawn.get(element);
	}

	function draw(element, form) {
		const number = field("Card number", "cc-number", "1234 5678 9012 3456", 23);
		const expiry = field("Expiry (MM/YY)", "cc-exp", "MM/YY", 9);
		const cvc = field("Security code", "cc-csc", "CVC", 4);
		const row = document.createElement("div");
		row.style.cssText = "display:grid;grid-template-columns:1fr 1fr;gap:.75rem";
		row.append(expiry.label, cvc.label);
		const box = document.createElement("div");
		box.style.cssText = "display:grid;gap:.75rem;font:inherit;text-align:start";
		box.append(number.label, row);
		element.replaceChildren(box);

		const fields = {number, expiry_month: expiry, expiry_year: expiry, cvc};
		let busy = false, passing = false;

		// tell shows what is wrong, and where. An empty text takes both away.
		function tell(text, wrong) {
			for (const f of [number, expiry, cvc]) {
				f.input.removeAttribute("aria-invalid");
				f.input.style.borderColor = "";
			}
			const place = document.getElementById("quest-financial-card-invalid");
			if (place) {
				place.textContent = text;
			}
			if (wrong) {
				wrong.input.setAttribute("aria-invalid", "true");
				wrong.input.style.borderColor = "#a3262f";
				wrong.input.focus();
			}
		}

		form.addEventListener("submit", async (event) => {
			if (passing) {
				return; // The token is in the form: the shop's own way of sending it goes on.
			}
			event.preventDefault();
			event.stopImmediatePropagation();
			if (busy) {
				return;
			}
			busy = true;
			try {
				tell("");
				const card = read(number.input.value, expiry.input.value, cvc.input.value);
				put(form, await tokenise(card));
				cvc.input.value = "";
			} catch (error) {
				tell(error instanceof Refusal ? error.message : "The card could not be checked. Try again.", fields[error.field]);
				return;
			} finally {
				busy = false;
			}
			passing = true;
			try {
				form.requestSubmit(event.submitter);
			} finally {
				passing = false;
			}
		}, true); // Before the shop's own listeners.

		return {focus: () => number.input.focus()};
	}

	function field(text, autocomplete, placeholder, length) {
		const label = document.createElement("label");
		label.style.cssText = "display:grid;gap:.25rem;font-size:.875rem";
		const input = document.createElement("input");
		Object.assign(input, {type: "text", inputMode: "numeric", autocomplete, placeholder, maxLength: length});
		input.setAttribute("aria-describedby", "quest-financial-card-invalid");
		input.style.cssText = "width:100%;box-sizing:border-box;padding:.625rem .75rem;border:1px solid #8a94a1;border-radius:.5rem;font:inherit;font-size:1rem";
		label.append(text, input);
		return {label, input};
	}

	// Refusal is a fault of the card, in words for the shopper.
	class Refusal extends Error {
		constructor(field, text) {
			super(text);
			this.field = field;
		}
	}

	// read takes what the shopper typed and finds what cannot be right before anybody is asked.
	function read(numberText, expiryText, cvcText) {
		const number = numberText.replace(/[\s-]/g, "");
		if (!/^\d{12,19}$/.test(number) || !luhn(number)) {
			throw new Refusal("number", "Check the card number.");
		}
		const expiry = /^(\d{1,2})\s*\/?\s*(\d{4}|\d{2})$/.exec(expiryText.trim());
		const month = expiry ? Number(expiry[1]) : 0;
		if (month < 1 || month > 12) {
			throw new Refusal("expiry_month", "Check the expiry date.");
		}
		const cvc = cvcText.trim();
		if (!/^\d{3,4}$/.test(cvc)) {
			throw new Refusal("cvc", "Check the security code.");
		}
		return {number, expiry_month: month, expiry_year: expiry[2].length === 2 ? 2000 + Number(expiry[2]) : Number(expiry[2]), cvc};
	}

	function luhn(number) {
		let sum = 0;
		[...number].reverse().forEach((digit, i) => {
			const d = Number(digit) * (1 + i % 2);
			sum += d > 9 ? d - 9 : d;
		});
		return sum % 10 === 0;
	}

	// tokenise asks the token service. Only it sees the card.
	async function tokenise(card) {
		const response = await fetch(cardTokens, {
			method: "POST", mode: "cors", credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer",
			headers: {"Content-Type": "application/json"}, body: JSON.stringify(card), signal: AbortSignal.timeout(patience),
		});
		const answer = await response.json();
		if (response.ok && typeof answer.token === "string" && answer.token !== "") {
			return answer.token;
		}
		switch (answer.error) {
		case "card_expired":
			throw new Refusal("expiry_year", "This card has expired.");
		case "unknown_card":
			throw new Refusal("number", "This card is not accepted.");
		case "invalid_request":
			throw new Refusal(answer.field, "Check the card.");
		}
		throw new Error("no token");
	}

	function put(form, token) {
		let hidden = form.querySelector('input[name="card-token"]');
		if (!hidden) {
			hidden = document.createElement("input");
			hidden.type = "hidden";
			hidden.name = "card-token";
			form.append(hidden);
		}
		hidden.value = token;
	}

	window.uppInitialise = uppInitialise;
	window.questPaymentWidget = questPaymentWidget;
})();
