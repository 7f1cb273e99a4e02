// mysql_once.js PORT_OR_SOCKET PASSWORD: logs in by mysql2 and runs a statement: "ok", or the error. TLS_CA in the environment: by TLS.
const [where, password] = process.argv.slice(2);
const how = { user: 'app', password, ...(where.startsWith('/') ? { socketPath: where } : { host: '127.0.0.1', port: +where }) };
if (process.env.TLS_CA)
	how.ssl = { ca: require('fs').readFileSync(process.env.TLS_CA) };
(async () => {
	const c = await require('mysql2/promise').createConnection(how);
	await c.query('set @a = 1');
	await c.end();
	console.log('ok');
})().catch(e => console.log(e.errno, e.sqlState, e.message));
