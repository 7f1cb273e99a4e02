// Two event streams: the overview, and the flows that are asked for. Both stop while the page is not seen.
const AGAIN_MS = 2000;
let overview = null, flows = null, again = 0;

function trouble(text) {
	if (at("trouble").textContent !== text)
		at("trouble").textContent = text;
	at("trouble").hidden = !text;
	document.body.classList.toggle("stale", Boolean(text));
	if (text) {
		at("state").textContent = "reconnecting";
		at("state").className = "pill wait";
	}
}

function listen(path, name, draw) {
	const stream = new EventSource(path);
	stream.addEventListener(name, e => {
		trouble("");
		draw(JSON.parse(e.data));
	});
	stream.addEventListener("error", () => lost(stream));
	return stream;
}

// A stream that was refused does not try again by itself; and after a restart a log-in may be needed.
async function lost(stream) {
	trouble("stent does not respond. This is the last known state.");
	if (stream.readyState !== EventSource.CLOSED || again)
		return;
	again = setTimeout(async () => {
		again = 0;
		const response = await fetch("/status", { method: "HEAD", cache: "no-store" }).catch(() => null);
		if (response?.status === 401)
			location.reload();
		else if (!document.hidden)
			start();
	}, AGAIN_MS);
}

function ask() {
	flows?.close();
	const asked = Object.entries(query).filter(([, v]) => v !== "" && v !== 0);
	flows = listen("/events/flows?" + new URLSearchParams(asked), "flows", drawFlows);
}

function stop() {
	overview?.close();
	flows?.close();
}

function start() {
	stop();
	forget();
	overview = listen("/events", "overview", drawOverview);
	ask();
}

document.addEventListener("visibilitychange", () => document.hidden ? stop() : start());
start();
