# The document's examples, as a user copies them.
# Create
curl -X POST -H "Content-Type: application/json" -d '{
"name": "my-first-task",
"spec": {
"process": {
"command": ["sh", "-c"],
"args": ["echo \"Hello from my task!\" && sleep 5 && echo \"Task finished.\""]
}
}
}' http://localhost:5758/tasks
# Get
curl http://localhost:5758/tasks/my-first-task
# Delete
curl -X DELETE http://localhost:5758/tasks/my-first-task
# Synchronize
curl -X POST -H "Content-Type: application/json" -d \
'[
{
"name": "task-alpha",
"spec": { "process": { "command": ["sleep", "10"] } }
},
{
"name": "task-beta",
"spec": { "process": { "command": ["ls", "-l", "/tmp"] } }
}
]' http://localhost:5758/setTasks
# List
curl http://localhost:5758/getTasks
# Health
curl http://localhost:5758/health
# Sidecar
curl -X POST -H "Content-Type: application/json" -d '{
"name": "sidecar-namespace-check",
"spec": {
"process": {
"command": ["ls", "/proc/self/ns"]
}
}
}' http://localhost:5758/tasks
