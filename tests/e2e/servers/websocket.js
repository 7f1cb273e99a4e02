// websocket.js PORT yes|no: a WebSocket server (ws) that sends back each message, cut into fragments; yes: compressed.
// With TLS_CERT and TLS_KEY in the environment: with TLS.
// "pings N": it pings N times and tells what came back. "close CODE REASON": it closes so.
const { WebSocketServer } = require('ws');
const { TLS_CERT, TLS_KEY } = process.env;
const read = require('fs').readFileSync;
const sleep = ms => new Promise(done => setTimeout(done, ms));

// All but the last fragment is sent at once, the last after a pause full of heartbeats.
async function echo(ws, data, binary) {
	const half = data.length >> 1;
	if (data.length < 2 || !binary) return ws.send(data, { binary });
	ws.send(data.subarray(0, half), { binary, fin: false });
	await sleep(60);
	ws.send(data.subarray(half), { binary, fin: true });
}

async function pings(ws, n) {
	const came = {};
	const note = data => { const text = data.toString(); if (text) came[text] = (came[text] || 0) + 1; };
	ws.on('pong', note);
	for (let i = 0; i < n; i++) { ws.ping('server ' + i); await sleep(30); }
	await sleep(300);
	ws.off('pong', note);
	ws.send(JSON.stringify(came));
}

const listener = TLS_CERT ? require('https').createServer({ cert: read(TLS_CERT), key: read(TLS_KEY) }) : require('http').createServer();
const server = new WebSocketServer({
	server: listener, maxPayload: 1 << 26,
	perMessageDeflate: process.argv[3] === 'yes' ? { threshold: 0 } : false,
});
listener.listen(+process.argv[2], '127.0.0.1', () => console.log('ready'));
server.on('connection', ws => {
	let chain = Promise.resolve();
	ws.on('message', (data, binary) => {
		const [word, ...rest] = binary || data.length > 200 ? [] : data.toString().split(' ');
		chain = chain.then(() => word === 'pings' ? pings(ws, +rest[0])
			: word === 'close' ? ws.close(+rest[0], rest.slice(1).join(' ')) : echo(ws, data, binary));
	});
	ws.on('close', (code, reason) => console.log('closed ' + code + ' ' + reason));
	ws.on('error', e => console.log('error ' + e.message));
});
