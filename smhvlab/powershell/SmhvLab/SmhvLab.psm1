# SmhvLab.psm1: what smhvlab needs on a Hyper-V host and cannot send as one cmdlet.
#
# Copy this folder to a folder of $env:PSModulePath on every host; its role capability makes the functions visible in the
# session configuration that smhvlab connects to (SmhvLab.pssc, beside the folder). They only read.
#
# This module has not been run on real Windows. The simulated hosts of labenv answer the same signature.

Set-StrictMode -Version 2.0

function New-SmhvError {
    param([string] $Id, [string] $Category, [object] $Target, [string] $Message)
    $exception = New-Object System.InvalidOperationException $Message
    New-Object System.Management.Automation.ErrorRecord $exception, $Id, $Category, $Target
}

function Invoke-SmhvGuestCheck {
    <#
    .SYNOPSIS
    Checks the databases inside a running virtual machine over PowerShell Direct, without a network to it.

    .DESCRIPTION
    For each database: its state, the messages of DBCC CHECKDB, and, if it has the ledger's tables, the ledger check.
    One object per database: VMId, VMName, ComputerName, Database, State, Sound, Problems, RowTotal, LastEntry.
    RowTotal and LastEntry are null for a database without a ledger, and for one that is not online.

    .PARAMETER VMId
    The virtual machine's id.

    .PARAMETER Credential
    An administrator of the guest's operating system who may use its SQL Server.

    .PARAMETER Database
    Names of databases; without it, all user databases.
    #>
    [CmdletBinding()]
    [OutputType([pscustomobject])]
    param(
        [Parameter(Mandatory = $true, Position = 0)]
        [guid] $VMId,

        [pscredential] $Credential,

        [string[]] $Database
    )

    $vm = Get-VM -Id $VMId -ErrorAction SilentlyContinue
    if (-not $vm) {
        $text = "There is no virtual machine with the id $VMId on this host."
        $PSCmdlet.ThrowTerminatingError((New-SmhvError 'SmhvVirtualMachineNotFound' 'ObjectNotFound' $VMId $text))
    }
    if ($vm.State -ne 'Running') {
        $text = "The virtual machine '$($vm.Name)' is $($vm.State): start it first."
        $PSCmdlet.ThrowTerminatingError((New-SmhvError 'SmhvVirtualMachineNotRunning' 'InvalidOperation' $VMId $text))
    }
    if (-not $Credential) {
        $text = 'PowerShell Direct needs the credential of an administrator of the guest.'
        $PSCmdlet.ThrowTerminatingError((New-SmhvError 'SmhvCredentialNeeded' 'PermissionDenied' $VMId $text))
    }

    $check = {
        param([string[]] $Wanted)

        function Read-Table($Connection, $Text) {
            $command = $Connection.CreateCommand()
            $command.CommandText = $Text
            $command.CommandTimeout = 0
            $table = New-Object System.Data.DataTable
            $reader = $command.ExecuteReader()
            try { $table.Load($reader) } finally { $reader.Close() }
            , $table
        }

        $ledger = @'
SELECT
    (SELECT COUNT(*) FROM [{0}].dbo.ledger) AS RowTotal,
    (SELECT COALESCE(MAX(number), 0) FROM [{0}].dbo.entry) AS LastEntry,
    (SELECT COALESCE(MAX(sequence), 0) - COUNT(*) FROM [{0}].dbo.ledger) AS MissingRows,
    (SELECT COALESCE(MAX(number), 0) - COUNT(*) FROM [{0}].dbo.entry) AS MissingEntries,
    (SELECT COUNT(*) FROM [{0}].dbo.entry AS e LEFT JOIN
        (SELECT entry, MIN(sequence) AS first, COUNT(*) AS lines, SUM(amount) AS total
        FROM [{0}].dbo.ledger GROUP BY entry) AS r ON r.entry = e.number
        WHERE r.entry IS NULL OR r.first <> e.first OR r.lines <> e.lines OR r.total <> e.total) AS WrongEntries,
    (SELECT COUNT(*) FROM [{0}].dbo.ledger AS r LEFT JOIN [{0}].dbo.entry AS e ON e.number = r.entry
        WHERE e.number IS NULL) AS OrphanRows,
    (SELECT COUNT(*) FROM [{0}].dbo.account AS a LEFT JOIN
        (SELECT account, COUNT(*) AS lines, SUM(amount) AS total
        FROM [{0}].dbo.ledger GROUP BY account) AS r ON r.account = a.number
        WHERE a.balance <> COALESCE(r.total, 0) OR a.lines <> COALESCE(r.lines, 0)) AS WrongBalances,
    (SELECT COUNT(*) FROM [{0}].dbo.entry AS e LEFT JOIN [{0}].dbo.entry AS p ON p.number = e.number - 1
        WHERE e.chain <> HASHBYTES('SHA2_256', CONCAT(CONVERT(varchar(64),
            COALESCE(p.chain, CONVERT(binary(32), 0x00)), 2),
            '|', e.number, '|', e.first, '|', e.lines, '|', e.total))) AS BrokenLinks
'@
        $findings = 'MissingRows', 'MissingEntries', 'WrongEntries', 'OrphanRows', 'WrongBalances', 'BrokenLinks'
        $connection = New-Object System.Data.SqlClient.SqlConnection 'Server=.;Integrated Security=SSPI;Database=master'
        $connection.Open()
        try {
            $known = @{}
            foreach ($row in (Read-Table $connection 'SELECT name, state_desc FROM sys.databases WHERE database_id > 4').Rows) {
                $known[[string] $row.name] = [string] $row.state_desc
            }
            if (-not $Wanted) { $Wanted = @($known.Keys | Sort-Object) }
            foreach ($name in $Wanted) {
                $found = [ordered]@{
                    ComputerName = $env:COMPUTERNAME; Database = $name; State = 'MISSING'; Sound = $false
                    Problems = @("There is no database '$name'."); RowTotal = $null; LastEntry = $null
                }
                if ($known.ContainsKey($name)) {
                    $found.State = $known[$name]
                    $found.Problems = @("The database is $($known[$name]).")
                }
                if ($found.State -eq 'ONLINE') {
                    $quoted = $name.Replace(']', ']]')
                    $problems = @()
                    try {
                        [void] (Read-Table $connection "DBCC CHECKDB (N'$($name.Replace("'", "''"))') WITH NO_INFOMSGS")
                    }
                    catch { $problems += $_.Exception.GetBaseException().Message }
                    $there = Read-Table $connection "SELECT OBJECT_ID(N'[$($quoted.Replace("'", "''"))].dbo.ledger') AS id"
                    if ($there.Rows[0].id -isnot [System.DBNull]) {
                        try {
                            $row = (Read-Table $connection ($ledger -f $quoted)).Rows[0]
                            $found.RowTotal = [long] $row.RowTotal
                            $found.LastEntry = [long] $row.LastEntry
                            foreach ($each in $findings) {
                                if ($row.$each -ne 0) { $problems += "Ledger: $each is $($row.$each)." }
                            }
                        }
                        catch { $problems += $_.Exception.GetBaseException().Message }
                    }
                    $found.Problems = $problems
                    $found.Sound = $problems.Count -eq 0
                }
                [pscustomobject] $found
            }
        }
        finally { $connection.Close() }
    }

    $arguments = @{ VMId = $VMId; Credential = $Credential; ScriptBlock = $check; ArgumentList = (, $Database) }
    try { $results = @(Invoke-Command @arguments -ErrorAction Stop) }
    catch {
        $text = "The guest of '$($vm.Name)' cannot be asked: $($_.Exception.Message)"
        $PSCmdlet.ThrowTerminatingError((New-SmhvError 'SmhvGuestNotReached' 'ConnectionError' $VMId $text))
    }
    foreach ($each in $results) {
        [pscustomobject] @{
            VMId = $VMId; VMName = $vm.Name; ComputerName = $each.ComputerName; Database = $each.Database
            State = $each.State; Sound = $each.Sound; Problems = @($each.Problems)
            RowTotal = $each.RowTotal; LastEntry = $each.LastEntry
        }
    }
}

Export-ModuleMember -Function Invoke-SmhvGuestCheck
