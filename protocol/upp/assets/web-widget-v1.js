// The payment buttons of a shop's page. startData is the answer of POST /v1/startWebWidget, as it came. The page calls
// createQuestWebWidget(startData).createList(undefined, element, async (request) => { …; return {complete: true}; }), and sends
// request.requestFields to its back end, which passes it on as webWidget.
(() => {
	"use strict";
	const titles = {
		alipay: "Alipay", wechat: "WeChat Pay", unionpay: "UnionPay", humm: "humm", zippay: "Zip", afterpay: "Afterpay",
		latitudepay: "LatitudePay", genoapay: "Genoapay",
	};

	function createQuestWebWidget(startData) {
		if (!startData || !Array.isArray(startData.providers)) {
			throw new TypeError("createQuestWebWidget: give it the answer of startWebWidget.");
		}
		return {createList: (options, element, choose) => createList(startData, element, choose)};
	}

	function createList(startData, element, choose) {
		const place = typeof element === "string" ? document.querySelector(element) : element;
		if (!place || typeof choose !== "function") {
			throw new TypeError("createList: give it an element of the page and a function.");
		}
		const list = document.createElement("div");
		list.style.cssText = "display:grid;gap:.5rem;font:inherit";
		const trouble = document.createElement("p");
		trouble.setAttribute("role", "alert");
		trouble.style.cssText = "margin:0;color:#a3262f";
		const buttons = startData.providers.map((provider) => button(provider, pay));
		list.append(...buttons, trouble);
		place.replaceChildren(list);
		if (buttons.length === 0) {
			trouble.textContent = "There is no way to pay here.";
		}

		// pay hands one choice to the page. The buttons come back unless the page says that it has taken over: a second click must not
		// begin a second payment.
		async function pay(provider) {
			trouble.textContent = "";
			buttons.forEach((b) => { b.disabled = true; });
			let complete = false;
			try {
				const result = await choose({requestFields: {provider}});
				complete = Boolean(result && result.complete);
			} catch (error) {
				trouble.textContent = "That did not work. Try again.";
				console.error(error);
			}
			if (!complete) {
				buttons.forEach((b) => { b.disabled = false; });
			}
		}

		// A page that the browser kept and shows again, after the shopper went back, must be usable again.
		window.addEventListener("pageshow", (event) => {
			if (event.persisted) {
				buttons.forEach((b) => { b.disabled = false; });
			}
		});
	}

	function button(provider, pay) {
		const b = document.createElement("button");
		b.type = "button"; // It must not submit a form that happens to be around it.
		b.textContent = titles[provider] || provider;
		b.dataset.provider = provider;
		b.style.cssText = "width:100%;min-height:3rem;padding:.5rem 1rem;border:1px solid #8a94a1;border-radius:.5rem;background:transparent;" +
			"color:inherit;font:inherit;font-weight:600;cursor:pointer";
		b.addEventListener("click", () => { pay(provider); });
		return b;
	}

	window.createQuestWebWidget = createQuestWebWidget;
})();
